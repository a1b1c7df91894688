"""A module that torch compiled, in a CUDA graph for each batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.backends.torch_compile.float_form import FloatForm, float_form
from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.pass_manager.numerics import flatten_outputs
from vitgraph.runtime.accelerator import Card, KernelTime
from vitgraph.runtime.backend import Execution, Runner
from vitgraph.runtime.kernel_spans import by_kernel, profiled

MODE = "max-autotune-no-cudagraphs"
"""Inductor times kernels for each product; graphs are recorded here, as for the other backends, not by torch's own trees of them."""
Compile = Callable[[fx.GraphModule], Callable[..., Any]]


@dataclass(frozen=True)
class Recorded:
    """One batch size: where its input goes, what runs it, and where the first output is then."""

    batch: Tensor
    replay: Callable[[], None]
    output: Tensor


def inductor(module: fx.GraphModule) -> Callable[..., Any]:
    """The module compiled whole for the shapes it is called with."""
    compiled: Callable[..., Any] = torch.compile(module, mode=MODE, dynamic=False, fullgraph=True)
    return compiled


class CompiledRunner(Runner):
    """The program in FP16, without quantization, on a card."""

    def __init__(self, program: Program, card: Card, compile_module: Compile = inductor) -> None:
        """`InputError` where the program has several inputs."""
        if len(program.inputs) != 1:
            raise InputError(f"{program.name}: has {len(program.inputs)} inputs; a runner takes models of one")
        wanted = program.input_types()[0]
        super().__init__(program.name, tuple(s if isinstance(s, int) else None for s in wanted.shape), wanted.dtype)
        self.card, self._compile = card, compile_module
        self._form: FloatForm = float_form(program)
        self._planned = [str(node.meta.get("path", "")) for node in self._form.module.graph.nodes if _is_linear(node)]
        self._recorded = dict[int, Recorded]()

    @property
    def accelerator(self) -> Card:
        """The GPU."""
        return self.card

    def compute(self, batch: Tensor) -> Tensor:
        """The first output, on the CPU, in FP32."""
        found = self._ready(batch)
        with self.card.queue():
            found.batch.copy_(batch)
            found.replay()
            return found.output.to("cpu", torch.float32, copy=True)

    def resident(self, batch: Tensor) -> Callable[[], object]:
        """What replays the graph of this batch size."""
        found = self._ready(batch)
        with self.card.queue():
            found.batch.copy_(batch)
        self.card.synchronize()
        return found.replay

    def kernel_times(self, batch: Tensor) -> Sequence[KernelTime]:
        """Kernels by name: what Inductor fused belongs to no one site."""
        replay = self.resident(batch)

        def work() -> None:
            with self.card.queue():
                replay()
            self.card.synchronize()

        return by_kernel(profiled(work))

    def execution(self, batch: int) -> Execution:
        """FP16 throughout, and what was left out of the program."""
        left_out = self._form.told()
        settings = {"torch.compile": MODE, "left out": left_out or "nothing"}
        return Execution(dict.fromkeys(self._planned, "fp16"), {}, settings)

    def close(self) -> None:
        """Let go of graphs and their memory."""
        self._recorded.clear()

    def _ready(self, batch: Tensor) -> Recorded:
        size = len(batch)
        if size not in self._recorded:
            try:
                self._recorded[size] = self._record(batch)
            except torch.OutOfMemoryError as error:
                raise InputError(
                    f"{self.name}: the GPU's memory does not hold a batch of {size}; run smaller batches, or free memory"
                ) from error
        return self._recorded[size]

    def _record(self, batch: Tensor) -> Recorded:
        """Compile for this size, run, and record."""
        kind = torch.float16 if batch.dtype.is_floating_point else batch.dtype
        place = self.card.empty(tuple(batch.shape), kind)
        source = self._form.module.to(place.device)
        compiled = self._compile(_own_code(source))

        def run() -> Tensor:
            with torch.no_grad():
                return flatten_outputs(compiled(place))[0]

        with self.card.queue():
            place.copy_(batch)
            run()  # compiles
            run()
        return Recorded(place, *self.card.capture(run))


def _own_code(module: fx.GraphModule) -> fx.GraphModule:
    """The same weights under code of its own: torch stops compiling code that meets too many shapes."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    return fx.GraphModule(module, graph)


def _is_linear(node: fx.Node) -> bool:
    return node.target in (torch.ops.aten.linear.default, torch.ops.aten.conv2d.default)
