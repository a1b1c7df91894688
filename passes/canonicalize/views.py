"""Rules of `canonicalize` for operators that give the same elements in another shape or order, or just as they are."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx

from vitgraph.ir.call_arguments import argument, arguments
from vitgraph.ir.calls import PermuteCall
from vitgraph.ir.dialect import INTEGER, aten
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, IntType
from vitgraph.passes.canonicalize.rule import Rule, batch_of, shape, size_argument, source


def drop(program: Program, node: fx.Node) -> fx.Node | None:
    """An operator that returns its input."""
    return source(node) if source(node).meta["type"] == node.meta["type"] else None


def drop_dropout(program: Program, node: fx.Node) -> fx.Node | None:
    """Dropout outside training."""
    values = arguments(node)
    return source(node) if not values["train"] or values["p"] == 0 else None


def reshape(program: Program, node: fx.Node) -> fx.Node | None:
    """Everything that gives the same elements in the same order another shape."""
    first, sizes = source(node), list(shape(node))
    if shape(first) == shape(node):
        return first
    unknown = [position for position, size in enumerate(sizes) if isinstance(size, Dim)]
    if len(unknown) > 1:
        return None  # stays as captured, with its sizes computed in the graph
    literal = [-1 if isinstance(size, Dim) else size for size in sizes]
    while first.target is aten.reshape.default:
        first = source(first)
    if shape(first) == shape(node):
        return first
    if node.args == (first, literal) and node.target is aten.reshape.default:
        return None
    return program.insert(node, aten.reshape.default, first, literal)


def permute_by(program: Program, node: fx.Node, order: list[int]) -> fx.Node | None:
    """`order` as one permutation of what stands before all permutations."""
    first = source(node)
    while first.target is aten.permute.default:
        inner = PermuteCall(first).dims
        order = [inner[position] % len(order) for position in order]
        first = source(first)
    if order == sorted(order):
        return first
    if node.args == (first, order) and node.target is aten.permute.default:
        return None
    return program.insert(node, aten.permute.default, first, order)


def permute(program: Program, node: fx.Node) -> fx.Node | None:
    """A permutation by its list of dimensions."""
    rank = len(shape(node))
    return permute_by(program, node, [dim % rank for dim in arguments(node)["dims"]])


def transpose(program: Program, node: fx.Node) -> fx.Node | None:
    """A swap of two dimensions; of the last two where none are named."""
    rank, values = len(shape(node)), arguments(node)
    order = list(range(rank))
    if rank < 2:
        return source(node)
    a = values.get("dim0", values.get("axis0", -2)) % rank
    b = values.get("dim1", values.get("axis1", -1)) % rank
    order[a], order[b] = order[b], order[a]
    return permute_by(program, node, order)


def reverse(program: Program, node: fx.Node) -> fx.Node | None:
    """`x.T` of any rank."""
    return permute_by(program, node, list(reversed(range(len(shape(node))))))


def _from_front(dims: Any, rank: int) -> list[int]:
    listed: list[int] = [dims] if isinstance(dims, int) else list(dims)
    return [dim % rank for dim in listed]


def movedim(program: Program, node: fx.Node) -> fx.Node | None:
    """`movedim` and `moveaxis`."""
    rank, values = len(shape(node)), arguments(node)
    starts, ends = _from_front(values["source"], rank), _from_front(values["destination"], rank)
    order = [dim for dim in range(rank) if dim not in starts]
    for place, dim in sorted(zip(ends, starts, strict=True)):
        order.insert(place, dim)
    return permute_by(program, node, order)


def expand(program: Program, node: fx.Node) -> fx.Node | None:
    """A broadcast; a size that the input already has is -1 where it depends on the batch."""
    first, before, after = source(node), shape(source(node)), shape(node)
    if before == after:
        return first
    aligned = (None,) * (len(after) - len(before)) + before
    given: Any = arguments(node).get("size", arguments(node).get("other"))
    sizes = [
        size if isinstance(size, int) else -1 if size == old else _wanted(program, node, given, position)
        for position, (size, old) in enumerate(zip(after, aligned, strict=True))
    ]
    if node.target is aten.expand.default and node.args == (first, sizes) and not node.kwargs:
        return None
    return program.insert(node, aten.expand.default, first, sizes)


def _wanted(program: Program, node: fx.Node, given: Any, position: int) -> Any:
    """A size that depends on the batch: as the call has it, or computed where the call names another tensor."""
    return size_argument(program, node, shape(node)[position]) if isinstance(given, fx.Node) else given[position]


def sym_size(program: Program, node: fx.Node) -> fx.Node | None:
    """Any size that depends on the batch, read off the input."""
    kind = node.meta["type"]
    if not isinstance(kind, IntType) or not isinstance(kind.value, Dim):
        return None  # a literal: its users take it as one
    owner, dim = batch_of(program)
    if node.target is aten.sym_size.int and node.args == (owner, dim):
        return None
    if node.target in (operator.mul, operator.add) and _over_batch(node, owner, dim):
        return None
    return size_argument(program, node, kind.value)  # type: ignore[no-any-return]


def _over_batch(node: fx.Node, owner: fx.Node, dim: int) -> bool:
    """Is this `sym_size(owner, dim) * times [+ plus]` already?"""
    inner, number = argument(node, "a"), argument(node, "b")
    if not isinstance(inner, fx.Node) or not isinstance(number, int):
        return False
    if inner.target is operator.mul and node.target is operator.add:
        return _over_batch(inner, owner, dim)
    return inner.target is aten.sym_size.int and inner.args == (owner, dim)


VIEWS: dict[Any, Rule] = {
    **dict.fromkeys(
        (
            aten.clone.default,
            aten.contiguous.default,
            aten.alias.default,
            aten.detach.default,
            aten.lift_fresh.default,
            aten.lift_fresh_copy.default,
            aten.lift.default,
            aten.positive.default,
            aten.resolve_conj.default,
            aten.resolve_neg.default,
        ),
        drop,
    ),
    **dict.fromkeys((aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default), drop_dropout),
    **dict.fromkeys(
        (
            aten.reshape.default,
            aten.view.default,
            aten.view_copy.default,
            aten._unsafe_view.default,
            aten._reshape_copy.default,
            aten.view_as.default,
            aten.reshape_as.default,
            aten.flatten.using_ints,
            aten.unflatten.int,
            aten.squeeze.default,
            aten.squeeze.dim,
            aten.squeeze.dims,
            aten.unsqueeze.default,
            aten.ravel.default,
        ),
        reshape,
    ),
    **dict.fromkeys((aten.permute.default, aten.permute_copy.default), permute),
    **dict.fromkeys(
        (
            aten.transpose.int,
            aten.transpose_copy.int,
            aten.t.default,
            aten.mT.default,
            aten.adjoint.default,
            aten.swapaxes.default,
            aten.swapdims.default,
        ),
        transpose,
    ),
    aten.numpy_T.default: reverse,
    **dict.fromkeys((aten.movedim.int, aten.movedim.intlist, aten.moveaxis.int, aten.moveaxis.intlist), movedim),
    **dict.fromkeys((aten.expand.default, aten.expand_as.default, aten.broadcast_to.default), expand),
    **dict.fromkeys((aten.sym_size.int, *INTEGER), sym_size),
}
"""Rule by operator."""
