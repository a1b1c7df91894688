"""A model in OpenVINO, compiled for each batch size that it is given.

Kernels for known shapes are a few percent faster than those for an open batch (1 to 6 % at batch 8, 5 to 9 % at batch 1),
and the sizes of one run are few.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vitgraph.backends.openvino.execution import describe
from vitgraph.errors import InputError
from vitgraph.runtime.backend import Execution, Runner

_TORCH_TYPES = {
    "f32": torch.float32,
    "f16": torch.float16,
    "f64": torch.float64,
    "i64": torch.int64,
    "i32": torch.int32,
    "i8": torch.int8,
    "u8": torch.uint8,
    "boolean": torch.bool,
}


_UNFUSED = {"SNIPPETS_MODE": "DISABLE"}
"""OpenVINO 2026.4 computes wrong numbers where it fuses an attention with as many heads as tokens and the transpose after it,
and ends the process (segmentation fault) where it fuses one whose result is read twice."""


class OpenVinoRunner(Runner):
    """A model and its requests by batch size. OpenVINO would convert a batch of another type; the base class refuses it."""

    def __init__(self, core: Any, model: Any, name: str, config: Mapping[str, Any]) -> None:
        port = model.inputs[0]
        kind = str(port.element_type.get_type_name())
        if kind not in _TORCH_TYPES:
            raise InputError(f"{name}: takes {kind}, which torch has no tensors of")
        sizes = tuple(None if size.is_dynamic else int(size.get_length()) for size in port.partial_shape)
        super().__init__(name, sizes, _TORCH_TYPES[kind])
        self._core: Any = core
        self._model: Any = model
        self._config = dict(config)
        self._requests = dict[int, Any]()

    def compute(self, batch: Tensor) -> Tensor:
        """The first output, in memory of its own."""
        found = self._request(batch.shape[0]).infer([batch.detach().cpu().contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(found[0].copy())  # pyright: ignore[reportUnknownMemberType]

    def prepare(self, batch: int) -> None:
        """Compile for a batch size now; `InputError` where OpenVINO does not take the model."""
        self._request(batch)

    def execution(self, batch: int) -> Execution:
        """What is executed for a batch of this size, read from the compiled model."""
        return describe(self._model, self._request(batch).get_compiled_model())

    def close(self) -> None:
        """Let go of models and memory."""
        self._requests.clear()
        self._model = self._core = None

    def _request(self, batch: int) -> Any:
        """The request for a batch size, made when it is first asked for."""
        if batch not in self._requests:
            model = self._model.clone()
            if self.batch_size is None and self.input_shape:
                model.reshape([batch, *(-1 if size is None else size for size in self.input_shape[1:])])
            misfused = _has_square_attention(model) or _has_attention_read_twice(model)
            config = self._config | (_UNFUSED if misfused else {})
            try:
                compiled = self._core.compile_model(model, "CPU", config)
            except RuntimeError as error:
                raise InputError(f"{self.name}: OpenVINO can't compile it: {reason(error)}") from error
            self._requests[batch] = compiled.create_infer_request()
        return self._requests[batch]


def _has_square_attention(model: Any) -> bool:
    """Whether a softmax over `[..., heads, tokens, keys]` has as many heads as tokens, and more than one."""
    for op in _softmaxes(model):
        shape = op.get_output_partial_shape(0)
        if len(shape) > 2 and shape[-3] == shape[-2] and shape[-2] != 1:
            return True
    return False


def _has_attention_read_twice(model: Any) -> bool:
    """Whether a product of a softmax is read by more than one operator."""
    products = [reader for op in _softmaxes(model) for reader in _readers(op) if reader.get_type_name() == "MatMul"]
    return any(len(_readers(product)) > 1 for product in products)


def _softmaxes(model: Any) -> list[Any]:
    return [op for op in model.get_ops() if op.get_type_name() in ("Softmax", "SoftMax")]


def _readers(op: Any) -> list[Any]:
    return [place.get_node() for place in op.output(0).get_target_inputs()]


def reason(error: Exception) -> str:
    """The line that says what is wrong: OpenVINO's messages begin with places in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lacks = [line for line in lines if line.startswith("Unsupported")]  # of what follows from it more is told
    told = lacks or [line for line in lines if not line.startswith(("Exception from", "Check '", "While validating"))]
    return (told or lines or [type(error).__name__])[0][:400]
