"""Where values are rounded to INT8 codes: the scale of a Q/DQ pair, and the one that all consumers of a value round it with."""

from __future__ import annotations

from torch import fx

from vitgraph.ir.calls import AttentionCall, QuantizeCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import FREE, RELAYS
from vitgraph.ir.program import Program

_ELEMENTS_STAY = RELAYS | {aten.to.dtype}
"""After these all elements are still there, each with its value."""


def tensor_scale(program: Program, node: fx.Node) -> float | None:
    """The scale of a Q/DQ pair in INT8 around zero with one scale; None for any other node."""
    pair = QuantizeCall.of(node)
    if pair is None or pair.format.name != "int8" or pair.shift is not None:
        return None
    scale = program.constant(pair.scale)
    if scale is None or scale.numel() != 1 or not 2.0**-100 <= float(scale) <= 2.0**100:
        return None
    return float(scale)


def common_scale(program: Program, node: fx.Node) -> float | None:
    """The scale with which every consumer of a value rounds it, past reshapes, permutations and casts; None where they differ."""
    scales = set[float | None]()
    for user in node.users:
        relays = user.target in _ELEMENTS_STAY
        scales.add(common_scale(program, user) if relays else codes_scale(program, user))
    return scales.pop() if len(scales) == 1 else None


def codes_scale(program: Program, node: fx.Node) -> float | None:
    """The scale of a pair whose codes are what is wanted: products read them."""
    return tensor_scale(program, node) if reads_codes(node) else None


def reads_codes(node: fx.Node) -> bool:
    """Whether every consumer of a value, past what only moves it, is a product: it can have codes in place of values."""
    return bool(node.users) and all(_reads_codes(user, node) for user in node.users)


def _reads_codes(user: fx.Node, value: fx.Node) -> bool:
    if user.target is aten.sym_size.int:
        return True
    if user.target in FREE or QuantizeCall.views(user):
        return reads_codes(user)
    product, attention = WeightedCall.of(user), AttentionCall.of(user)
    return (product is not None and product.data is value) or (attention is not None and value in attention.operands)
