"""Steps from one node to another: to a linear's weight and data, and past what only moves values."""

from __future__ import annotations

from typing import Any

from torch import fx

from vitgraph.ir.calls import WeightedCall
from vitgraph.ir.dialect import aten, fake_quantize
from vitgraph.ir.operator_classes import LAYOUT


def path_of(node: fx.Node) -> str:
    """The path of the module a node came from; `model` for the model itself."""
    return node.meta.get("path") or "model"


def weight_of(node: fx.Node) -> fx.Node:
    """The `get_attr` that a linear's weight comes from, through masks and quantizers."""
    weight: Any = WeightedCall(node).weight
    while weight.op == "call_function":
        weight = weight.args[0]
    return weight  # type: ignore[no-any-return]


def data_of(node: fx.Node) -> fx.Node:
    """What is multiplied: a linear's first argument, upstream of its quantizer and casts."""
    source: Any = node.args[0]
    while source.target in (fake_quantize, aten.to.dtype):
        source = source.args[0]
    return source  # type: ignore[no-any-return]


def before_layout(node: fx.Node) -> fx.Node:
    """What a value was before it was moved about: reshaped, permuted, cut or cast."""
    while node.target in LAYOUT and node.target is not aten.cat.default:
        node = node.args[0]  # type: ignore[assignment]
    return node
