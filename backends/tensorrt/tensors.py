"""What an engine takes and gives, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vitgraph.backends.tensorrt.runtime import EngineRuntime
from vitgraph.errors import InputError


@dataclass(frozen=True)
class EngineTensors:
    """The input, the first output, and the type of every tensor at the edge."""

    input: str
    output: str
    input_shape: tuple[int | None, ...]
    """None for a size that is left open."""
    types: Mapping[str, torch.dtype]

    @property
    def input_type(self) -> torch.dtype:
        """Of the input."""
        return self.types[self.input]


def read_tensors(runtime: EngineRuntime, engine: Any, name: str) -> EngineTensors:
    """`InputError` unless there is one input whose batch alone is open, an output, and torch has all the types."""
    modes = {
        tensor: engine.get_tensor_mode(tensor)
        for tensor in (str(engine.get_tensor_name(index)) for index in range(engine.num_io_tensors))
    }
    kinds = runtime.trt.TensorIOMode
    inputs = [tensor for tensor, mode in modes.items() if mode == kinds.INPUT]
    outputs = [tensor for tensor, mode in modes.items() if mode == kinds.OUTPUT]
    if len(inputs) != 1:
        raise InputError(f"{name}: has {len(inputs)} inputs; a runner takes models of one")
    if not outputs:
        raise InputError(f"{name}: gives nothing; build it of a whole model")
    shape = tuple(None if size == -1 else int(size) for size in engine.get_tensor_shape(inputs[0]))
    if not shape or None in shape[1:]:
        raise InputError(f"{name}: its input is {list(shape)}; a runner takes models of which the batch alone is open")
    types = {tensor: runtime.torch_type(engine, tensor, name) for tensor in (*inputs, *outputs)}
    return EngineTensors(inputs[0], outputs[0], shape, types)
