"""Rules of `canonicalize` for rounding, and for quotients and remainders that are whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.divisors import is_safe
from vitgraph.ir.program import Program
from vitgraph.passes.canonicalize.rule import Rule, as_tensor, constant, source


def of_whole_numbers(program: Program, node: fx.Node) -> fx.Node | None:
    """Whole numbers are rounded already."""
    return None if node.meta["type"].dtype.is_floating_point else source(node)


def truncate(program: Program, node: fx.Node) -> fx.Node | None:
    """Towards zero: the sign, and the whole part of the rest."""
    if not node.meta["type"].dtype.is_floating_point:
        return source(node)
    sign = program.insert(node, aten.sign.default, source(node))
    whole = program.insert(node, aten.floor.default, program.insert(node, aten.abs.default, source(node)))
    return program.insert(node, aten.mul.Tensor, whole, sign)


def fraction(program: Program, node: fx.Node) -> fx.Node | None:
    """What truncation takes away."""
    whole = program.insert(node, aten.trunc.default, source(node))
    return program.insert(node, aten.sub.Tensor, source(node), whole)


def to_decimals(program: Program, node: fx.Node) -> fx.Node | None:
    """To a number of decimals, as torch does: scaled, rounded, and scaled again."""
    places = arguments(node)["decimals"]
    there, again = (aten.mul.Tensor, aten.div.Tensor) if places > 0 else (aten.div.Tensor, aten.mul.Tensor)
    scaled = program.insert(node, there, source(node), 10.0 ** abs(places))
    return program.insert(node, again, program.insert(node, aten.round.default, scaled), 10.0 ** abs(places))


def c_remainder(program: Program, node: fx.Node) -> fx.Node | None:
    """`fmod`, whose sign is the dividend's: between tensors of one type."""
    left, right = _operands(program, node)
    if node.target is aten.fmod.Tensor and node.args == (left, right):
        return None
    return program.insert(node, aten.fmod.Tensor, left, right)


def remainder(program: Program, node: fx.Node) -> fx.Node | None:
    """Python's `%`, whose sign is the divisor's: `fmod`, and the divisor once more where the signs differ."""
    left, right = _operands(program, node)
    rest = program.insert(node, aten.fmod.Tensor, left, right)
    more = program.insert(node, aten.add.Tensor, rest, right)
    return program.insert(node, aten.where.self, _signs_differ(program, node, rest, right), more, rest)


def _operands(program: Program, node: fx.Node) -> tuple[fx.Node, fx.Node]:
    """Dividend and divisor as tensors of the type that the result has."""
    values, dtype = arguments(node), node.meta["type"].dtype
    dividend, divisor = (as_tensor(program, node, values[name], dtype, "divisor") for name in ("self", "other"))
    return dividend, divisor


def _signs_differ(program: Program, node: fx.Node, rest: fx.Node, divisor: fx.Node) -> fx.Node:
    """Where a remainder is not zero, and of the other sign than the divisor."""
    signs = [program.insert(node, aten.lt.Scalar, each, 0) for each in (rest, divisor)]
    return program.insert(
        node,
        aten.logical_and.default,
        program.insert(node, aten.ne.Scalar, rest, 0),
        program.insert(node, aten.ne.Tensor, *signs),
    )


def divide(program: Program, node: fx.Node) -> fx.Node | None:
    """A quotient rounded down or towards zero; the dialect keeps the one of whole numbers towards zero."""
    mode = arguments(node).get("rounding_mode", "floor")
    if mode is None:
        return program.insert(node, aten.div.Tensor, *(arguments(node)[name] for name in ("self", "other")))
    left, right = _operands(program, node)
    if node.meta["type"].dtype.is_floating_point:
        return _floor(program, node, left, right) if mode == "floor" else _towards_zero(program, node, left, right)
    same = node.target is aten.div.Tensor_mode and mode == "trunc" and node.args == (left, right)
    if same and is_safe(program, right, node.meta["type"].dtype):
        return None
    quotient = _whole(program, node, left, right)
    if mode == "trunc":
        return quotient
    rest = program.insert(node, aten.fmod.Tensor, left, right)
    less = program.insert(node, aten.sub.Tensor, quotient, 1)
    return program.insert(node, aten.where.self, _signs_differ(program, node, rest, right), less, quotient)


def _whole(program: Program, node: fx.Node, left: fx.Node, right: fx.Node) -> fx.Node:
    """A quotient of whole numbers towards zero; by -1 it is a sign, as the least number divided so ends the process."""
    dtype = node.meta["type"].dtype
    if is_safe(program, right, dtype):
        return program.insert(node, aten.div.Tensor_mode, left, right, rounding_mode="trunc")
    negates = program.insert(node, aten.eq.Scalar, right, -1)
    one = constant(program, node, "one", torch.ones((), dtype=dtype))
    other = program.insert(node, aten.where.self, negates, one, right)
    quotient = program.insert(node, aten.div.Tensor_mode, left, other, rounding_mode="trunc")
    return program.insert(node, aten.where.self, negates, program.insert(node, aten.neg.default, left), quotient)


def _towards_zero(program: Program, node: fx.Node, left: fx.Node, right: fx.Node) -> fx.Node:
    return program.insert(node, aten.trunc.default, program.insert(node, aten.div.Tensor, left, right))


def _floor(program: Program, node: fx.Node, left: fx.Node, right: fx.Node) -> fx.Node:
    """Python's `//` step by step as torch computes it: 1.0 // 0.1 is 9, though 1.0 / 0.1 rounds to 10."""

    def step(target: Any, *args: Any) -> fx.Node:
        return program.insert(node, target, *args)

    rest = step(aten.fmod.Tensor, left, right)
    exact = step(aten.div.Tensor, step(aten.sub.Tensor, left, rest), right)
    differ = _signs_differ(program, node, rest, right)
    exact = step(aten.where.self, differ, step(aten.sub.Tensor, exact, 1.0), exact)
    whole = step(aten.floor.default, exact)
    missed = step(aten.gt.Scalar, step(aten.sub.Tensor, exact, whole), 0.5)
    whole = step(aten.where.self, missed, step(aten.add.Tensor, whole, 1.0), whole)
    by_zero = step(aten.eq.Scalar, right, 0)
    return step(aten.where.self, by_zero, step(aten.div.Tensor, left, right), whole)


ROUNDING: dict[Any, Rule] = {
    **dict.fromkeys((aten.floor.default, aten.round.default, aten.ceil.default), of_whole_numbers),
    aten.trunc.default: truncate,
    aten.frac.default: fraction,
    aten.round.decimals: to_decimals,
    **dict.fromkeys((aten.fmod.Tensor, aten.fmod.Scalar), c_remainder),
    **dict.fromkeys((aten.remainder.Tensor, aten.remainder.Scalar, aten.remainder.Scalar_Tensor), remainder),
    **dict.fromkeys(
        (aten.div.Tensor_mode, aten.div.Scalar_mode, aten.floor_divide.default, aten.floor_divide.Scalar), divide
    ),
}
"""Rule by operator."""
