"""Rules of `canonicalize` for functions of one element that the dialect writes with others."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program
from vitgraph.passes.canonicalize.rule import Rule, cast_source, respell, shape, source


def logarithm(base: float) -> Rule:
    """The logarithm to a base."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        natural = program.insert(node, aten.log.default, cast_source(program, node))
        return program.insert(node, aten.mul.Tensor, natural, 1 / math.log(base))

    return rule


def log_of_one_more(program: Program, node: fx.Node) -> fx.Node | None:
    """log(1 + x) that is exact for small x: log(u) x / (u - 1), where u is 1 + x as rounded (W. Kahan)."""

    def step(target: Any, *args: Any) -> fx.Node:
        return program.insert(node, target, *args)

    first = cast_source(program, node)
    rounded = step(aten.add.Tensor, first, 1.0)
    seen = step(aten.sub.Tensor, rounded, 1.0)
    factor = step(aten.div.Tensor, first, seen)
    lost = step(aten.logical_or.default, step(aten.eq.Scalar, seen, 0.0), step(aten.eq.Scalar, first, math.inf))
    return step(aten.where.self, lost, first, step(aten.mul.Tensor, step(aten.log.default, rounded), factor))


def power_less_one(program: Program, node: fx.Node) -> fx.Node | None:
    """exp(x) - 1 as tanh(x / 2) (exp(x) + 1), which is exact for small x."""
    first = cast_source(program, node)
    half = program.insert(node, aten.tanh.default, program.insert(node, aten.mul.Tensor, first, 0.5))
    more = program.insert(node, aten.add.Tensor, program.insert(node, aten.exp.default, first), 1.0)
    return program.insert(node, aten.mul.Tensor, half, more)


def tangent(program: Program, node: fx.Node) -> fx.Node | None:
    """Sine over cosine."""
    first = cast_source(program, node)
    parts = [program.insert(node, target, first) for target in (aten.sin.default, aten.cos.default)]
    return program.insert(node, aten.div.Tensor, *parts)


def log_sigmoid(program: Program, node: fx.Node) -> fx.Node | None:
    """The negative softplus of the negative."""
    negative = program.insert(node, aten.neg.default, source(node))
    return program.insert(node, aten.neg.default, program.insert(node, aten.softplus.default, negative))


def hard_shrink(program: Program, node: fx.Node) -> fx.Node | None:
    """Zero where the absolute value is not above the limit."""
    size = program.insert(node, aten.abs.default, source(node))
    small = program.insert(node, aten.le.Scalar, size, arguments(node)["lambd"])
    return program.insert(node, aten.masked_fill.Scalar, source(node), small, 0)


def soft_shrink(program: Program, node: fx.Node) -> fx.Node | None:
    """The absolute value less the limit: what a clamp to the limit takes away."""
    limit = arguments(node)["lambd"]
    inner = program.insert(node, aten.clamp.default, source(node), -limit, limit)
    return program.insert(node, aten.sub.Tensor, source(node), inner)


SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)
"""Alpha and scale (Klambauer et al. 2017, arXiv 1706.02515)."""


def selu(program: Program, node: fx.Node) -> fx.Node | None:
    """An elu of fixed numbers."""
    return program.insert(node, aten.elu.default, source(node), *SELU)


def celu(program: Program, node: fx.Node) -> fx.Node | None:
    """An elu of x / alpha on the negative side."""
    alpha = arguments(node)["alpha"]
    return program.insert(node, aten.elu.default, source(node), alpha, 1, 1 / alpha)


def elu(program: Program, node: fx.Node) -> fx.Node | None:
    """One with an input scale in two halves: the scale is the negative one's."""
    values, first = arguments(node), source(node)
    if values["input_scale"] == 1:
        return None
    below = program.insert(node, aten.clamp.default, first, None, 0.0)
    scaled = program.insert(node, aten.mul.Tensor, below, values["input_scale"])
    negative = program.insert(node, aten.elu.default, scaled, values["alpha"])
    both = program.insert(node, aten.add.Tensor, program.insert(node, aten.relu.default, first), negative)
    return program.insert(node, aten.mul.Tensor, both, values["scale"])


def gate(program: Program, node: fx.Node) -> fx.Node | None:
    """`glu`: one half times the sigmoid of the other."""
    first = source(node)
    dim: int = arguments(node)["dim"] % len(shape(first))
    half = shape(node)[dim]
    if not isinstance(half, int):
        return None
    value, gate_ = (program.insert(node, aten.slice.Tensor, first, dim, at, at + half, 1) for at in (0, half))
    return program.insert(node, aten.mul.Tensor, value, program.insert(node, aten.sigmoid.default, gate_))


def random_leak(program: Program, node: fx.Node) -> fx.Node | None:
    """`rrelu` outside training: the mean slope."""
    values = arguments(node)
    if values["training"]:
        return None
    return program.insert(node, aten.leaky_relu.default, source(node), (values["lower"] + values["upper"]) / 2)


FUNCTIONS: dict[Any, Rule] = {
    aten.log2.default: logarithm(2),
    aten.log10.default: logarithm(10),
    aten.log1p.default: log_of_one_more,
    aten.expm1.default: power_less_one,
    aten.tan.default: tangent,
    aten.log_sigmoid.default: log_sigmoid,
    aten.hardshrink.default: hard_shrink,
    aten.softshrink.default: soft_shrink,
    aten.selu.default: selu,
    aten.celu.default: celu,
    aten.elu.default: elu,
    aten.glu.default: gate,
    aten.rrelu.default: random_leak,
    aten.special_expit.default: respell(aten.sigmoid.default, "self"),
}
"""Rule by operator."""
