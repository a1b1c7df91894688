"""Rules of `canonicalize` for reductions."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_schema import opname
from vitgraph.ir.program import Program
from vitgraph.passes.canonicalize.rule import Rule, cast, cast_source, inner_type, literal_shape, shape, source


def over_all(target: Any) -> Rule:
    """A reduction of everything as one over every dimension."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        return program.insert(node, target, cast_source(program, node), list(range(len(shape(source(node))))))

    return rule


def sorted_dims(program: Program, node: fx.Node) -> fx.Node | None:
    """The dimensions of a reduction in ascending order, all of them where none are named."""
    values, rank = arguments(node), len(shape(source(node)))
    given = values["dim"]
    given = [given] if isinstance(given, int) else given
    dims = sorted(dim % rank for dim in given) if given else list(range(rank))
    if given == dims and isinstance(values["dim"], list) and values.get("dtype") is None:
        return None
    args = (cast_source(program, node), dims, values["keepdim"])
    return program.insert(node, node.target, *args)  # type: ignore[arg-type]


def variance(program: Program, node: fx.Node) -> fx.Node | None:
    """`var` and `std` in every spelling as `var.correction`, and its root."""
    values, rank = arguments(node), len(shape(source(node)))
    correction = values.get("correction")
    if correction is None:
        correction = int(values.get("unbiased", True))
    dims = values.get("dim")
    dims = [dims] if isinstance(dims, int) else dims or list(range(rank))
    keep = values.get("keepdim", False)
    name = opname(node.target)
    kwargs = {"correction": correction, "keepdim": keep} if keep else {"correction": correction}
    dims = sorted(dim % rank for dim in dims)
    if name == "var" and node.args == (source(node), dims) and dict(node.kwargs) == kwargs:
        return None
    if name == "var":
        return program.insert(node, aten.var.correction, source(node), dims, path=None, **kwargs)
    dtype = node.meta["type"].dtype
    wide = cast(program, node, source(node), inner_type(dtype))
    found = program.insert(node, aten.var.correction, wide, dims, path=None, **kwargs)
    return cast(program, node, program.insert(node, aten.sqrt.default, found), dtype)


def norm(program: Program, node: fx.Node) -> fx.Node | None:
    """`norm` in every spelling as `linalg_vector_norm(x, p, dims, keepdim)`."""
    values, rank = arguments(node), len(shape(source(node)))
    power = values.get("p", values.get("ord"))
    dims = values.get("dim")
    dims = sorted(dim % rank for dim in ([dims] if isinstance(dims, int) else dims or range(rank)))
    if node.target is aten.linalg_norm.default and power is not None and len(dims) > 1:
        return None  # the norm of a matrix
    power, keep = 2 if power is None else power, values.get("keepdim", False)
    if power not in (1, 2, math.inf, -math.inf):
        return _norm_in_steps(program, node, power, dims, keep)
    wanted = (cast_source(program, node), power, dims, keep)
    if node.target is aten.linalg_vector_norm.default and node.args in (wanted, wanted[:-1]) and not node.kwargs:
        return None
    return program.insert(node, aten.linalg_vector_norm.default, *wanted)


def _norm_in_steps(program: Program, node: fx.Node, power: float, dims: list[int], keep: bool) -> fx.Node:
    """A norm of any other order by its definition; of order 0, how many are not zero."""
    dtype = node.meta["type"].dtype
    size = program.insert(node, aten.abs.default, cast(program, node, source(node), inner_type(dtype)))
    if power == 0:
        other = cast(program, node, program.insert(node, aten.ne.Scalar, size, 0), dtype)
        return program.insert(node, aten.sum.dim_IntList, other, dims, keep)
    powers = program.insert(node, aten.pow.Tensor_Scalar, size, power)
    summed = program.insert(node, aten.sum.dim_IntList, powers, dims, keep)
    return cast(program, node, program.insert(node, aten.pow.Tensor_Scalar, summed, 1 / power), dtype)


def product(program: Program, node: fx.Node) -> fx.Node | None:
    """Along one dimension; a product of everything along the one of all."""
    values, first = arguments(node), cast_source(program, node)
    if "dim" not in values:
        flat = program.insert(node, aten.reshape.default, first, [-1])
        return program.insert(node, aten.prod.dim_int, flat, 0)
    wanted = (first, values["dim"], values["keepdim"])
    return None if values["dtype"] is None else program.insert(node, aten.prod.dim_int, *wanted)


def log_of_sum(program: Program, node: fx.Node) -> fx.Node | None:
    """`logsumexp`: the largest apart, unless it is infinite."""

    def step(target: Any, *args: Any) -> fx.Node:
        return program.insert(node, target, *args)

    values, first = arguments(node), cast_source(program, node)
    largest = step(aten.amax.default, first, values["dim"], True)
    infinite = step(aten.eq.Scalar, step(aten.abs.default, largest), math.inf)
    largest = step(aten.masked_fill.Scalar, largest, infinite, 0.0)
    powers = step(aten.exp.default, step(aten.sub.Tensor, first, largest))
    logs = step(aten.log.default, step(aten.sum.dim_IntList, powers, values["dim"], values["keepdim"]))
    return step(aten.add.Tensor, logs, step(aten.reshape.default, largest, literal_shape(shape(node))))


def truth(target: Any) -> Rule:
    """Whether any or all of some values are not zero: the largest or smallest of ones and zeros."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        values, first = arguments(node), source(node)
        if first.meta["type"].dtype != torch.bool:
            first = program.insert(node, aten.ne.Scalar, first, 0)
        ones = program.insert(node, aten.to.dtype, first, torch.float32)
        dims = values.get("dim")
        dims = [dims] if isinstance(dims, int) else list(range(len(shape(first)))) if dims is None else dims
        found = program.insert(node, target, ones, dims, values.get("keepdim", False))
        return cast(program, node, program.insert(node, aten.ne.Scalar, found, 0.0), node.meta["type"].dtype)

    return rule


def smallest_place(program: Program, node: fx.Node) -> fx.Node | None:
    """`argmin`: the place of the largest negative."""
    values, first = arguments(node), source(node)
    if not first.meta["type"].dtype.is_floating_point:
        first = program.insert(node, aten.to.dtype, first, torch.int64)
    negative = program.insert(node, aten.neg.default, first)
    return program.insert(node, aten.argmax.default, negative, values["dim"], values["keepdim"])


def sorted_places(program: Program, node: fx.Node) -> fx.Node | None:
    """`argsort`: the second result of a sort."""
    values = arguments(node)
    both = program.insert(node, aten.sort.default, source(node), values["dim"], values["descending"])
    return program.insert(node, operator.getitem, both, 1)


REDUCTIONS: dict[Any, Rule] = {
    aten.mean.default: over_all(aten.mean.dim),
    aten.sum.default: over_all(aten.sum.dim_IntList),
    aten.max.default: over_all(aten.amax.default),
    aten.min.default: over_all(aten.amin.default),
    **dict.fromkeys((aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default), sorted_dims),
    **dict.fromkeys((aten.prod.default, aten.prod.dim_int), product),
    aten.logsumexp.default: log_of_sum,
    **dict.fromkeys((aten.any.default, aten.any.dim, aten.any.dims), truth(aten.amax.default)),
    **dict.fromkeys((aten.all.default, aten.all.dim, aten.all.dims), truth(aten.amin.default)),
    aten.argmin.default: smallest_place,
    **dict.fromkeys((aten.argsort.default, aten.argsort.stable), sorted_places),
    **dict.fromkeys(
        (
            aten.var.default,
            aten.var.dim,
            aten.var.correction,
            aten.std.default,
            aten.std.dim,
            aten.std.correction,
        ),
        variance,
    ),
    **dict.fromkeys(
        (
            aten.norm.Scalar,
            aten.norm.ScalarOpt_dim,
            aten.linalg_norm.default,
            aten.linalg_vector_norm.default,
        ),
        norm,
    ),
}
"""Rule by operator."""
