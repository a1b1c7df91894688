"""Rules of `canonicalize` for comparisons, choices and bounds."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from vitgraph.ir.call_arguments import argument, arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_schema import opname
from vitgraph.ir.program import Program
from vitgraph.passes.canonicalize.rule import Rule, as_tensor, cast, cast_source, shape, source
from vitgraph.passes.constants import number


def clamp(program: Program, node: fx.Node) -> fx.Node | None:
    """Every clamp by number in one spelling; from zero upwards it is a relu."""
    values, first = arguments(node), cast_source(program, node)
    low, high = values.get("min", values.get("min_val")), values.get("max", values.get("max_val"))
    if node.target is aten.relu6.default:
        low, high = 0, 6
    low, high = _within_type(node, low, high)
    if low is None and high is None:
        return first
    if low == 0 and high is None:
        return program.insert(node, aten.relu.default, first)
    wanted = (first, low) if high is None else (first, low, high)
    if node.target is aten.clamp.default and node.args == wanted:
        return None
    return program.insert(node, aten.clamp.default, *wanted)


def _within_type(node: fx.Node, low: Any, high: Any) -> tuple[Any, Any]:
    """Bounds without those that no whole number of the type is beyond; torch refuses any that all are."""
    dtype = node.meta["type"].dtype
    if dtype.is_floating_point or dtype == torch.bool:
        return low, high
    known = torch.iinfo(dtype)
    low = None if low is not None and low <= known.min else low
    return low, None if high is not None and high >= known.max else high


def clamp_by_tensors(program: Program, node: fx.Node) -> fx.Node | None:
    """A clamp between constants is one between numbers; between other tensors, a maximum and a minimum."""
    values, new = arguments(node), source(node)
    low, high = values.get("min"), values.get("max")
    bounds = [None if each is None else number(program, each) for each in (low, high)]
    if all(each is None or known is not None for each, known in zip((low, high), bounds, strict=True)):
        bounds = [
            None if each == nothing else each for each, nothing in zip(bounds, (-math.inf, math.inf), strict=True)
        ]
        new = cast_source(program, node)
        return new if bounds == [None, None] else program.insert(node, aten.clamp.default, new, *bounds)
    new = new if low is None else program.insert(node, aten.maximum.default, new, low)
    return new if high is None else program.insert(node, aten.minimum.default, new, high)


def larger_or_smaller(program: Program, node: fx.Node) -> fx.Node | None:
    """The larger of two truth values is their `or`, the smaller their `and`."""
    values, larger = arguments(node), opname(node.target) in ("maximum", "max")
    if node.meta["type"].dtype == torch.bool:
        target = aten.logical_or.default if larger else aten.logical_and.default
        return program.insert(node, target, values["self"], values["other"])
    target = aten.maximum.default if larger else aten.minimum.default
    return None if node.target is target else program.insert(node, target, values["self"], values["other"])


def past_nan(program: Program, node: fx.Node) -> fx.Node | None:
    """`fmax` and `fmin`: of a number and NaN, the number."""
    left, right = arguments(node)["self"], arguments(node)["other"]
    target = aten.maximum.default if opname(node.target) == "fmax" else aten.minimum.default
    found = program.insert(node, target, left, right)
    for one, other in ((left, right), (right, left)):
        found = program.insert(node, aten.where.self, program.insert(node, aten.isnan.default, one), other, found)
    return found


def compare(program: Program, node: fx.Node) -> fx.Node | None:
    """A comparison with a number by its own overload."""
    found = number(program, argument(node, "other"))
    if found is None or shape(source(node)) != shape(node):
        return None
    packet = getattr(aten, opname(node.target))
    return program.insert(node, packet.Scalar, source(node), found)


def compare_with_constant(program: Program, node: fx.Node) -> fx.Node | None:
    """`<` and the like take tensors: a number becomes a constant of the type that torch compares in."""
    other, first = arguments(node)["other"], source(node)
    kind = first.meta["type"]
    dtype = torch.result_type(torch.empty((1,) * kind.rank, dtype=kind.dtype), other)
    packet = getattr(aten, opname(node.target))
    return program.insert(node, packet.Tensor, first, as_tensor(program, node, other, dtype, "limit"))


def where(program: Program, node: fx.Node) -> fx.Node | None:
    """Numbers in a choice become constants: `where.self` takes tensors."""
    values, dtype = arguments(node), node.meta["type"].dtype
    arms = [values["self"], values["other"]]
    arms = [each if isinstance(each, fx.Node) else as_tensor(program, node, each, dtype, "choice") for each in arms]
    return program.insert(node, aten.where.self, values["condition"], *arms)


def masked_fill(program: Program, node: fx.Node) -> fx.Node | None:
    """The filling as a number; one that is computed or trained is chosen."""
    values = arguments(node)
    known = number(program, values["value"])
    if known is not None:
        return program.insert(node, aten.masked_fill.Scalar, source(node), values["mask"], known)
    filling = cast(program, node, values["value"], node.meta["type"].dtype)
    return program.insert(node, aten.where.self, values["mask"], filling, source(node))


def threshold(program: Program, node: fx.Node) -> fx.Node | None:
    """`value` wherever the input is not above the threshold; NaN is kept."""
    values = arguments(node)
    low = program.insert(node, aten.le.Scalar, source(node), values["threshold"])
    return program.insert(node, aten.masked_fill.Scalar, source(node), low, values["value"])


def is_not_a_number(program: Program, node: fx.Node) -> fx.Node | None:
    """NaN alone differs from itself."""
    return program.insert(node, aten.ne.Tensor, source(node), source(node))


def is_infinite(program: Program, node: fx.Node) -> fx.Node | None:
    """Infinity of either sign."""
    size = program.insert(node, aten.abs.default, source(node))
    return program.insert(node, aten.eq.Scalar, size, math.inf)


def is_finite(program: Program, node: fx.Node) -> fx.Node | None:
    """Neither infinite nor NaN."""
    size = program.insert(node, aten.abs.default, source(node))
    return program.insert(node, aten.lt.Scalar, size, math.inf)


def nan_to_num(program: Program, node: fx.Node) -> fx.Node | None:
    """NaN, and infinity of either sign, by numbers; the type's largest and smallest where none are given."""
    values, first, dtype = arguments(node), source(node), node.meta["type"].dtype
    if not dtype.is_floating_point:
        return first
    largest = torch.finfo(dtype).max
    by = {
        math.inf: largest if values["posinf"] is None else values["posinf"],
        -math.inf: -largest if values["neginf"] is None else values["neginf"],
    }
    new = program.insert(
        node, aten.masked_fill.Scalar, first, program.insert(node, aten.isnan.default, first), values["nan"] or 0.0
    )
    for infinity, value in by.items():
        new = program.insert(
            node, aten.masked_fill.Scalar, new, program.insert(node, aten.eq.Scalar, first, infinity), value
        )
    return new


def logical(target: Any) -> Rule:
    """A bitwise operator on truth values is the logical one."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        if node.meta["type"].dtype != torch.bool:
            return None
        return program.insert(node, target, *(as_tensor(program, node, each, torch.bool) for each in node.args))

    return rule


def either_but_not_both(program: Program, node: fx.Node) -> fx.Node | None:
    """Two truth values that differ."""
    if node.meta["type"].dtype != torch.bool:
        return None
    return program.insert(node, aten.ne.Tensor, *(as_tensor(program, node, each, torch.bool) for each in node.args))


COMPARISONS: dict[Any, Rule] = {
    **dict.fromkeys(
        (
            aten.clamp.default,
            aten.clamp_min.default,
            aten.clamp_max.default,
            aten.hardtanh.default,
            aten.relu6.default,
        ),
        clamp,
    ),
    **dict.fromkeys((aten.clamp.Tensor, aten.clamp_min.Tensor, aten.clamp_max.Tensor), clamp_by_tensors),
    **dict.fromkeys((aten.maximum.default, aten.minimum.default, aten.max.other, aten.min.other), larger_or_smaller),
    **dict.fromkeys((aten.fmax.default, aten.fmin.default), past_nan),
    **dict.fromkeys((aten.eq.Tensor, aten.ne.Tensor), compare),
    **dict.fromkeys((aten.lt.Scalar, aten.le.Scalar, aten.gt.Scalar, aten.ge.Scalar), compare_with_constant),
    **dict.fromkeys((aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar), where),
    aten.masked_fill.Tensor: masked_fill,
    aten.threshold.default: threshold,
    aten.isnan.default: is_not_a_number,
    aten.isinf.default: is_infinite,
    aten.isfinite.default: is_finite,
    aten.nan_to_num.default: nan_to_num,
    aten.bitwise_not.default: logical(aten.logical_not.default),
    **dict.fromkeys((aten.bitwise_and.Tensor, aten.__and__.Tensor), logical(aten.logical_and.default)),
    **dict.fromkeys((aten.bitwise_or.Tensor, aten.__or__.Tensor), logical(aten.logical_or.default)),
    **dict.fromkeys((aten.bitwise_xor.Tensor, aten.__xor__.Tensor, aten.logical_xor.default), either_but_not_both),
}
"""Rule by operator."""
