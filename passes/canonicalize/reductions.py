"""Rules of `canonicalize` for reductions and pooling."""

from __future__ import annotations

from typing import Any

from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_schema import opname
from vitgraph.ir.program import Program
from vitgraph.passes.canonicalize.layers import in_pairs
from vitgraph.passes.canonicalize.rule import Rule, call_by_name, respell, shape, source


def over_all(target: Any) -> Rule:
    """A reduction of everything as one over every dimension."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        return program.insert(node, target, source(node), list(range(len(shape(source(node))))))

    return rule


def average_of_all(program: Program, node: fx.Node) -> fx.Node | None:
    """Pooling to one pixel is a mean; to the size it has already, nothing."""
    first, size = source(node), arguments(node)["output_size"]
    if shape(first) == shape(node):
        return first
    if list(size) != [1] * len(size):
        return in_pairs(program, node)
    rank = len(shape(first))
    return program.insert(node, aten.mean.dim, first, [rank - 2, rank - 1][-len(size) :], True)


def sorted_dims(program: Program, node: fx.Node) -> fx.Node | None:
    """The dimensions of a reduction in ascending order, all of them where none are named."""
    values, rank = arguments(node), len(shape(source(node)))
    given = values["dim"]
    given = [given] if isinstance(given, int) else given
    dims = sorted(dim % rank for dim in given) if given else list(range(rank))
    if given == dims and isinstance(values["dim"], list):
        return None
    values["dim"] = dims
    return call_by_name(program, node, node.target, values)


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
    found = program.insert(node, aten.var.correction, source(node), dims, path=None, **kwargs)
    return program.insert(node, aten.sqrt.default, found) if name == "std" else found


def norm(program: Program, node: fx.Node) -> fx.Node | None:
    """`norm` in every spelling as `linalg_vector_norm(x, p, dims, keepdim)`."""
    values, rank = arguments(node), len(shape(source(node)))
    power = values.get("p", values.get("ord"))
    dims = values.get("dim")
    dims = sorted(dim % rank for dim in ([dims] if isinstance(dims, int) else dims or range(rank)))
    wanted = (source(node), 2 if power is None else power, dims, values.get("keepdim", False))
    if node.target is aten.linalg_vector_norm.default and node.args in (wanted, wanted[:-1]):
        return None
    return program.insert(node, aten.linalg_vector_norm.default, *wanted)


def pool_along_a_line(program: Program, node: fx.Node) -> fx.Node | None:
    """`avg_pool1d` as the two-dimensional one on images of height 1."""
    values = arguments(node)
    image = program.insert(node, aten.unsqueeze.default, source(node), len(shape(source(node))) - 1)
    stride = values["stride"] or values["kernel_size"]
    sizes = ([1, *values["kernel_size"]], [1, *stride], [0, *values["padding"]])
    pooled = program.insert(
        node, aten.avg_pool2d.default, image, *sizes, values["ceil_mode"], values["count_include_pad"]
    )
    return program.insert(node, aten.squeeze.dim, pooled, len(shape(node)) - 1)


REDUCTIONS: dict[Any, Rule] = {
    aten.adaptive_avg_pool2d.default: average_of_all,
    aten._adaptive_avg_pool2d.default: respell(aten.adaptive_avg_pool2d.default, "self", "output_size"),
    aten.avg_pool1d.default: pool_along_a_line,
    aten.mean.default: over_all(aten.mean.dim),
    aten.sum.default: over_all(aten.sum.dim_IntList),
    aten.max.default: over_all(aten.amax.default),
    aten.min.default: over_all(aten.amin.default),
    **dict.fromkeys((aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default), sorted_dims),
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
