"""The weights an ONNX file really holds, by the name of the node that multiplies with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from vitgraph.ir.formats import pack_int4
from vitgraph.ir.packing import Packing
from vitgraph.reading import ONNX, check_file

_WEIGHTED = {"MatMul", "Gemm", "Conv"}
_FORMATS = {"INT8": "int8", "INT4": "int4", "FLOAT8E4M3FN": "fp8"}
_FLOATS = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16"}


@dataclass(frozen=True)
class StoredWeight:
    """A constant as stored, the axis that is summed over (K), and whether a convolution reads it.

    Codes are one to a byte here: INT4 unpacked, FP8 as its bits. Of a weight in floating point there are zeros and ones: where
    it is not zero.
    """

    values: NDArray[np.int8]
    k_axis: int
    convolution: bool
    format: str = "int8"

    @property
    def quantized(self) -> bool:
        """Whether `values` are the codes of a quantized weight."""
        return self.format not in _FLOATS.values()

    @property
    def kept(self) -> torch.Tensor:
        """Which weights are not zero: bool, `[N, K, …]`."""
        rows_first = self.values if self.k_axis else np.moveaxis(self.values, 0, 1)
        codes = rows_first & 127 if self.format == "fp8" else rows_first  # FP8 has a negative zero
        return torch.from_numpy(codes != 0)  # pyright: ignore[reportUnknownMemberType]

    def follows(self, pattern: Packing) -> bool:
        """Whether what is not zero obeys the pattern along K."""
        return pattern.holds(self.kept)

    def packed(self, values: NDArray[np.int8]) -> bytes:
        """Codes of this format as a file holds them: INT4 two to a byte."""
        if self.format != "int4":
            return values.tobytes()
        codes: torch.Tensor = torch.from_numpy(np.ascontiguousarray(values))  # pyright: ignore[reportUnknownMemberType]
        return pack_int4(codes).numpy().tobytes()


def read_weights(path: Path, floats: bool = False) -> dict[str, StoredWeight]:
    """The weights of every MatMul, Gemm and Conv of the file whose second input is a dequantized constant.

    With `floats` also those whose second input is a constant itself. External data is mapped, not read; keys are node names.
    """
    check_file(path, ONNX)
    load = cast(Any, import_module("onnx_ir")).load
    graph = load(path).graph
    found = {str(node.name): _weight_of(node, floats) for node in _nodes(graph)}
    return {name: weight for name, weight in found.items() if weight is not None}


def _nodes(graph: Any) -> Iterable[Any]:
    return (node for node in graph if node.op_type in _WEIGHTED and len(node.inputs) >= 2)


def _weight_of(node: Any, floats: bool) -> StoredWeight | None:
    source = node.inputs[1]
    dequantize = source.producer() if source is not None else None
    if dequantize is not None and dequantize.op_type == "DequantizeLinear":
        return _stored(node, dequantize.inputs[0].const_value, _FORMATS)
    return _stored(node, source.const_value, _FLOATS) if floats and source is not None else None


def _stored(node: Any, constant: Any, formats: dict[str, str]) -> StoredWeight | None:
    if constant is None or str(constant.dtype) not in formats:
        return None
    kind, numbers = formats[str(constant.dtype)], constant.numpy()
    if kind in _FLOATS.values():
        values = (numbers != 0).astype(np.int8)
    else:
        values = numbers.view(np.int8) if kind == "fp8" else numbers.astype(np.int8, copy=False)
    transposed = "transB" in node.attributes and node.attributes["transB"].as_int() == 1
    k_axis = 1 if node.op_type == "Conv" or transposed else values.ndim - 2
    return StoredWeight(values, k_axis, node.op_type == "Conv", kind)
