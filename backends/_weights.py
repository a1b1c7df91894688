"""The INT8 weights an ONNX file really holds, by the name of the node that multiplies with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

_WEIGHTED = {"MatMul", "Gemm", "Conv"}


@dataclass(frozen=True)
class Int8Weight:
    """An INT8 constant as stored, the axis that is summed over (K), and whether a convolution reads it."""

    values: NDArray[np.int8]
    k_axis: int
    convolution: bool

    def follows(self, n: int, m: int) -> bool:
        """Whether at most n of every m consecutive weights along K are non-zero (K a multiple of m)."""
        shape, axis = self.values.shape, self.k_axis
        if shape[axis] % m:
            return False
        groups = self.values.reshape(*shape[:axis], shape[axis] // m, m, *shape[axis + 1 :])
        return bool(((groups != 0).sum(axis=axis + 1, dtype=np.int32) <= n).all())


def read_int8_weights(path: Path) -> dict[str, Int8Weight]:
    """INT8 weights of every MatMul, Gemm and Conv of the file whose second input is a dequantized INT8 constant.

    External data is mapped, not read; keys are node names.
    """
    load = cast(Any, import_module("onnx_ir")).load
    graph = load(path).graph
    found = {str(node.name): _weight_of(node) for node in _nodes(graph)}
    return {name: weight for name, weight in found.items() if weight is not None}


def _nodes(graph: Any) -> Iterable[Any]:
    return (node for node in graph if node.op_type in _WEIGHTED and len(node.inputs) >= 2)


def _weight_of(node: Any) -> Int8Weight | None:
    dequantize = node.inputs[1].producer() if node.inputs[1] is not None else None
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    stored = dequantize.inputs[0].const_value
    if stored is None or str(stored.dtype) != "INT8":
        return None
    transposed = "transB" in node.attributes and node.attributes["transB"].as_int() == 1
    k_axis = 1 if node.op_type == "Conv" or transposed else stored.numpy().ndim - 2
    return Int8Weight(stored.numpy(), k_axis, node.op_type == "Conv")
