"""Numbers that a half-precision type can't hold: a mask's -1e9, the 1e-15 that keeps a divisor from zero, a factor of 1e6.

Before:
    scores = aten.masked_fill.Scalar(s, mask, -1000000000.0)  # s was f32 and becomes f16, which ends at 65504
    y = aten.div.Tensor(a, aten.add.Tensor(b, 1e-15))         # f16 rounds 1e-15 to 0, and 0 / 0 is no number
    z = aten.mul.Tensor(x, 1000000.0)

After:
    scores = aten.masked_fill.Scalar(s, mask, -65504.0)
    y = aten.div.Tensor(a, aten.add.Tensor(b, 5.960464477539063e-08))
    z = aten.mul.Tensor(x32, 1000000.0)                       # in FP32, and brought to the limits of f16 after it

What is filled in, added, or a bound keeps its meaning at the limit, or as the smallest number: half precision tells nothing
smaller apart in what it is added to. Everything else that a number says is computed in FP32. Epsilons of normalizations are left
as they are, since every backend computes those in FP32.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir.call_arguments import argument, set_argument
from vitgraph.ir.calls import RmsNormCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import NORMS, RELAYS, ROUNDS, Trait, operators_with
from vitgraph.ir.operator_schema import schema_of
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType

_FITTED: Mapping[Any, tuple[str, ...]] = {
    aten.masked_fill.Scalar: ("value",),
    aten.pad.default: ("value",),
    aten.clamp.default: ("min", "max"),
    aten.add.Tensor: ("other",),
    aten.sub.Tensor: ("other",),
}
"""Numbers that may be brought to the type's limits: what is filled in, bounds, and what is added."""
_EXACT = operators_with(Trait.POINTWISE) - {
    *_FITTED,
    aten.maximum.default,
    aten.minimum.default,
    aten.where.self,
    *ROUNDS,
}
"""Operators for which a constant of one element counts for what it is."""
_IN_FP32 = ("eps", "momentum")
"""Numbers of normalizations that every backend computes with in FP32."""
_NO_MAGNITUDE = re.compile("int|bool|str|List")
"""Types of arguments that are sizes, dimensions, places or names."""
_SLACK = 2.0**-7
"""How far, relative to itself, a factor may be from what the type makes of it: a step of BF16."""


def write_defaults(program: Program) -> None:
    """Write down the defaults that follow from the type, while that is still the model's own."""
    for node in program.calls(aten.rms_norm.default):
        norm = RmsNormCall(node)
        if norm.eps is None:
            norm.eps = norm.added


def wide_operators(program: Program, half: torch.dtype) -> dict[fx.Node, float]:
    """The operators that are computed in FP32, each with the number for which that is, and which `half` can't hold."""
    found = dict[fx.Node, float]()
    for node in filter(_computes, program.calls()):
        for number in _magnitudes(program, node):
            if not _holds(half, number):
                found[node] = number
        for number in _fitted(node).values():
            if 0 < abs(number) < 1 / torch.finfo(half).max:
                found |= dict.fromkeys(_inverse_of(node), number)
    return found


def fit_numbers(node: fx.Node, half: torch.dtype) -> None:
    """Bring the numbers of a call to the limits of `half`, and lift those that it would round to zero."""
    for name, number in _fitted(node).items():
        exact = torch.tensor(number, dtype=torch.float64)
        fitted = fit_tensor(exact, half)
        if fitted != exact.to(half):
            set_argument(node, name, float(fitted))


def fit_tensor(tensor: Tensor, half: torch.dtype, lift: bool = False) -> Tensor:
    """A constant in `half`: what is too large is brought to the limit, infinities stay.

    One number alone does not become zero; with `lift`, as for scales, none does.
    """
    limits = torch.finfo(half)
    kept = torch.where(tensor.isinf(), tensor, tensor.clamp(-limits.max, limits.max)).detach()
    rounded = kept.to(half)
    if not lift and tensor.numel() > 1:
        return rounded
    smallest = torch.full_like(rounded, limits.smallest_normal * limits.eps)
    return torch.where((rounded == 0) & (kept != 0), smallest.copysign(kept.sign().to(half)), rounded)


def _computes(node: fx.Node) -> bool:
    """Does it read values in floating point?"""
    kinds = (source.meta.get("type") for source in node.all_input_nodes)
    return any(isinstance(kind, TensorType) and kind.dtype.is_floating_point for kind in kinds)


def _fitted(node: fx.Node) -> dict[str, float]:
    """The numbers of a call that may be brought to the type's limits, by argument."""
    names = _FITTED.get(node.target, ()) if _computes(node) else ()
    given = {name: argument(node, name) for name in names}
    return {name: float(number) for name, number in given.items() if isinstance(number, int | float)}


def _magnitudes(program: Program, node: fx.Node) -> Iterator[float]:
    """The numbers that count for what they are: factors, exponents, what is compared with."""
    fitted = _FITTED.get(node.target, ())
    for name, kind in _kinds(node.target).items():
        value = argument(node, name)
        constant = program.constant(value)
        if name in fitted or (node.target in NORMS and name in _IN_FP32) or _NO_MAGNITUDE.search(kind):
            continue
        if isinstance(value, int | float):
            yield float(value)
        elif constant is not None and constant.numel() == 1 and node.target in _EXACT:
            yield constant.item()


def _kinds(target: Any) -> dict[str, str]:
    """The type of each argument, as the operator's schema names it."""
    schema = schema_of(target)
    return {} if schema is None else {each.name: str(each.type) for each in schema.arguments}


def _holds(half: torch.dtype, number: float) -> bool:
    rounded = float(torch.tensor(number, dtype=torch.float64).to(half))
    return not math.isfinite(number) or abs(rounded - number) <= _SLACK * abs(number)


def _inverse_of(node: fx.Node) -> Iterator[fx.Node]:
    """What takes the reciprocal of a value, up to the product that it is a factor of: alone it would leave the type."""
    for way in _ways(node, aten.reciprocal.default):
        yield from way
        for on in _ways(way[-1], aten.mul.Tensor):
            yield from on


def _ways(node: fx.Node, target: Any) -> Iterator[tuple[fx.Node, ...]]:
    """The operators from a value, through layout, to each reader that is `target`, in order."""
    for user in node.users:
        if user.target is target:
            yield (user,)
        elif user.target in RELAYS or user.target is aten.expand.default:
            yield from ((user, *way) for way in _ways(user, target))
