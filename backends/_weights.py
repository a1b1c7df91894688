"""The quantized weights an ONNX file really holds, by the name of the node that multiplies with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from vitgraph.formats import pack_int4

_WEIGHTED = {"MatMul", "Gemm", "Conv"}
_FORMATS = {"INT8": "int8", "INT4": "int4", "FLOAT8E4M3FN": "fp8"}


@dataclass(frozen=True)
class StoredWeight:
    """A constant of codes as stored, the axis that is summed over (K), and whether a convolution reads it.

    Codes are one to a byte here: INT4 unpacked, FP8 as its bits.
    """

    values: NDArray[np.int8]
    k_axis: int
    convolution: bool
    format: str = "int8"

    def follows(self, n: int, m: int) -> bool:
        """Whether at most n of every m consecutive weights along K are non-zero (K a multiple of m)."""
        shape, axis = self.values.shape, self.k_axis
        if shape[axis] % m:
            return False
        groups = self.values.reshape(*shape[:axis], shape[axis] // m, m, *shape[axis + 1 :])
        return bool(((groups != 0).sum(axis=axis + 1, dtype=np.int32) <= n).all())

    def packed(self, values: NDArray[np.int8]) -> bytes:
        """Codes of this format as a file holds them: INT4 two to a byte."""
        if self.format != "int4":
            return values.tobytes()
        codes: torch.Tensor = torch.from_numpy(np.ascontiguousarray(values))  # pyright: ignore[reportUnknownMemberType]
        return pack_int4(codes).numpy().tobytes()


def read_weights(path: Path) -> dict[str, StoredWeight]:
    """The weights of every MatMul, Gemm and Conv of the file whose second input is a dequantized constant.

    External data is mapped, not read; keys are node names.
    """
    load = cast(Any, import_module("onnx_ir")).load
    graph = load(path).graph
    found = {str(node.name): _weight_of(node) for node in _nodes(graph)}
    return {name: weight for name, weight in found.items() if weight is not None}


def _nodes(graph: Any) -> Iterable[Any]:
    return (node for node in graph if node.op_type in _WEIGHTED and len(node.inputs) >= 2)


def _weight_of(node: Any) -> StoredWeight | None:
    dequantize = node.inputs[1].producer() if node.inputs[1] is not None else None
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    stored = dequantize.inputs[0].const_value
    if stored is None or str(stored.dtype) not in _FORMATS:
        return None
    found = _FORMATS[str(stored.dtype)]
    codes = stored.numpy()
    values = codes.view(np.int8) if found == "fp8" else codes.astype(np.int8, copy=False)
    transposed = "transB" in node.attributes and node.attributes["transB"].as_int() == 1
    k_axis = 1 if node.op_type == "Conv" or transposed else values.ndim - 2
    return StoredWeight(values, k_axis, node.op_type == "Conv", found)
