"""Rules of `canonicalize` for operators that only move data: one spelling each, and what moves nothing is dropped."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx

from vitgraph.dialect import INTEGER, aten
from vitgraph.passes._schema import arguments
from vitgraph.program import Program
from vitgraph.tensor_type import Dim, IntType, Size, TensorType, TupleType

Rule = Callable[[Program, fx.Node], fx.Node | None]

WHOLE = 9223372036854775807
"""`end` of a slice that goes on to the end."""


def shape(node: Any) -> tuple[Size, ...]:
    """The shape of a tensor node."""
    kind = node.meta["type"]
    assert isinstance(kind, TensorType)
    return kind.shape


def source(node: fx.Node) -> fx.Node:
    """The first argument, which is a node."""
    first = node.args[0]
    assert isinstance(first, fx.Node)
    return first


def drop(program: Program, node: fx.Node) -> fx.Node | None:
    """An operator that gives back its input."""
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
        inner: Any = first.args[1]
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
    given: Any = node.args[1]
    if node.target is not aten.expand.default and any(isinstance(size, Dim) for size in after):
        given = shape_nodes(program, node, node.args[1]) if isinstance(node.args[1], fx.Node) else given
    sizes = [
        size if isinstance(size, int) else -1 if size == old else given[position]
        for position, (size, old) in enumerate(zip(after, aligned, strict=True))
    ]
    if node.target is aten.expand.default and list(given) == sizes and not node.kwargs:
        return None
    return program.insert(node, aten.expand.default, first, sizes)


def shape_nodes(program: Program, node: fx.Node, like: fx.Node) -> list[Any]:
    """The sizes of `like`: literals, and `sym_size` where the batch decides."""
    return [
        program.insert(node, aten.sym_size.int, like, dim) if isinstance(size, Dim) else size
        for dim, size in enumerate(shape(like))
    ]


def slice_(program: Program, node: fx.Node) -> fx.Node | None:
    """A slice with start and end counted from the front."""
    values, before = arguments(node), shape(source(node))
    dim: int = values["dim"] % len(before)
    start, end, step = values["start"] or 0, values["end"], values["step"]
    size = before[dim]
    if before == shape(node) and step == 1:
        return source(node)
    if isinstance(size, int) and isinstance(start, int):
        start = min(size, start + size if start < 0 else start)
    if isinstance(size, int) and (end is None or isinstance(end, int)):
        end = size if end is None else min(size, end + size if end < 0 else end)
    wanted = (source(node), dim, start, WHOLE if end is None else end, step)
    if node.target is aten.slice.Tensor and node.args == wanted and not node.kwargs:
        return None
    return program.insert(node, aten.slice.Tensor, *wanted)


def narrow(program: Program, node: fx.Node) -> fx.Node | None:
    """`narrow(x, dim, start, length)`."""
    values = arguments(node)
    if not isinstance(values["start"], int) or not isinstance(values["length"], int):
        return None
    end = values["start"] + values["length"]
    return program.insert(node, aten.slice.Tensor, source(node), values["dim"], values["start"], end, 1)


def select(program: Program, node: fx.Node) -> fx.Node | None:
    """One index along a dimension, both counted from the front."""
    values, before = arguments(node), shape(source(node))
    dim: int = values["dim"] % len(before)
    index, size = values["index"], before[dim]
    if isinstance(index, int) and isinstance(size, int):
        index %= size
    if node.args == (source(node), dim, index) and not node.kwargs:
        return None
    return program.insert(node, aten.select.int, source(node), dim, index)


_SPLITS = frozenset(
    {
        aten.split.Tensor,
        aten.split.sizes,
        aten.split_with_sizes.default,
        aten.chunk.default,
        aten.tensor_split.sections,
        aten.tensor_split.indices,
        aten.unsafe_split.Tensor,
        aten.unsafe_chunk.default,
    }
)


def part(program: Program, node: fx.Node) -> fx.Node | None:
    """`getitem` of an operator with several results, each named by an operator of its own."""
    whole, index = source(node), node.args[1]
    assert isinstance(index, int)
    if whole.target is aten.unbind.int:
        return program.insert(node, aten.select.int, source(whole), arguments(whole)["dim"], index)
    if whole.target in _SPLITS:
        return _piece(program, node, whole, index)
    if whole.target is aten._native_batch_norm_legit_no_training.default and index == 0:
        image, weight, bias, mean, var, momentum, eps = arguments(whole).values()
        return program.insert(
            node, aten.batch_norm.default, image, weight, bias, mean, var, False, momentum, eps, False
        )
    first_of = FIRST_RESULT.get(whole.target)
    if first_of is None or index != 0:
        return None
    values = arguments(whole)
    return program.insert(node, first_of[0], *[values[name] for name in first_of[1].split()], **first_of[2])


FIRST_RESULT: dict[Any, tuple[Any, str, dict[str, Any]]] = {
    aten.native_layer_norm.default: (aten.layer_norm.default, "input normalized_shape weight bias eps", {}),
    aten.max_pool2d_with_indices.default: (
        aten.max_pool2d.default,
        "self kernel_size stride padding dilation ceil_mode",
        {},
    ),
    aten.max.dim: (aten.amax.default, "self dim keepdim", {}),
    aten.min.dim: (aten.amin.default, "self dim keepdim", {}),
    aten.adaptive_max_pool2d.default: (aten.adaptive_max_pool2d.default, "self output_size", {}),
}
"""Operators whose first result, the only one used, has an operator of its own: that, and which arguments it takes."""


def _piece(program: Program, node: fx.Node, whole: fx.Node, index: int) -> fx.Node | None:
    dim: int = arguments(whole)["dim"] % len(shape(source(whole)))
    pieces = whole.meta["type"]
    assert isinstance(pieces, TupleType)
    sizes = [item.shape[dim] for item in pieces.items if isinstance(item, TensorType)]
    if any(isinstance(size, Dim) for size in sizes):
        return None
    known = [size for size in sizes if isinstance(size, int)]
    start = sum(known[:index])
    return program.insert(node, aten.slice.Tensor, source(whole), dim, start, start + known[index], 1)


def stack(program: Program, node: fx.Node) -> fx.Node | None:
    """A stack is a cat along a new dimension."""
    values = arguments(node)
    dim = values["dim"] % len(shape(node))
    rows = [program.insert(node, aten.unsqueeze.default, row, dim) for row in values["tensors"]]
    return program.insert(node, aten.cat.default, rows, dim)


def copy(program: Program, node: fx.Node) -> fx.Node | None:
    """What is written over all of a tensor takes its shape and type, and nothing else of it."""
    old, new, kind = source(node), arguments(node)["src"], node.meta["type"]
    if new.meta["type"].dtype != kind.dtype:
        new = program.insert(node, aten.to.dtype, new, kind.dtype)
    return program.insert(node, aten.expand_as.default, new, old)


def scatter(program: Program, node: fx.Node) -> fx.Node | None:
    """A tensor with a part written over is a cat: what stands before the part, the part, what stands after it."""
    values, sizes = arguments(node), shape(node)
    dim: int = values["dim"] % len(sizes)
    step, part_ = values.get("step", 1), values["src"]
    size = sizes[dim]
    if not isinstance(size, int) or step != 1:
        return None
    start = values["index"] if "index" in values else values["start"] or 0
    start = min(size, start + size if start < 0 else start)
    if "index" in values:
        part_ = program.insert(node, aten.unsqueeze.default, part_, dim)
    written = shape(part_)[dim]
    assert isinstance(written, int)
    end = start + written
    whole = source(node)
    if part_.meta["type"].dtype != node.meta["type"].dtype:
        part_ = program.insert(node, aten.to.dtype, part_, node.meta["type"].dtype)
    before = [program.insert(node, aten.slice.Tensor, whole, dim, 0, start, 1)] if start else []
    after = [program.insert(node, aten.slice.Tensor, whole, dim, end, size, 1)] if end < size else []
    return program.insert(node, aten.cat.default, [*before, part_, *after], dim)


def cat(program: Program, node: fx.Node) -> fx.Node | None:
    """A cat of one is that one."""
    tensors: Any = node.args[0]
    return tensors[0] if len(tensors) == 1 else None


def pad(program: Program, node: fx.Node) -> fx.Node | None:
    """Padding with all four arguments; padding by nothing is dropped."""
    values = arguments(node)
    pads = list(values["pad"])
    mode, value = values.get("mode", "constant"), values.get("value")
    if all(isinstance(each, int) and each == 0 for each in pads):
        return source(node)
    value = float(value or 0) if mode == "constant" else None
    wanted = (source(node), pads, mode, value)
    if node.target is aten.pad.default and node.args == wanted and not node.kwargs:
        return None
    return program.insert(node, aten.pad.default, *wanted)


def repeat(program: Program, node: fx.Node) -> fx.Node | None:
    """Repeating along dimensions of size 1 is an expand; repeating once is nothing."""
    first, times = source(node), list(arguments(node).get("repeats", arguments(node).get("dims", [])))
    before = shape(first)
    if before == shape(node):
        return first
    times = [1] * (len(before) - len(times)) + times
    aligned = (1,) * (len(times) - len(before)) + before
    if all(size == 1 or count == 1 for size, count in zip(aligned, times, strict=True)):
        sizes = [-1 if count == 1 and size != 1 else count for size, count in zip(aligned, times, strict=True)]
        return program.insert(node, aten.expand.default, first, sizes)
    return None if node.target is aten.repeat.default else program.insert(node, aten.repeat.default, first, times)


def repeat_each(program: Program, node: fx.Node) -> fx.Node | None:
    """Each element several times in a row: a new dimension of size 1, expanded and merged."""
    values, before = arguments(node), shape(source(node))
    dim, count = values["dim"], values["repeats"]
    if dim is None or not isinstance(count, int):
        return None
    dim %= len(before)
    apart = program.insert(node, aten.unsqueeze.default, source(node), dim + 1)
    sizes = [count if position == dim + 1 else -1 for position in range(len(before) + 1)]
    many = program.insert(node, aten.expand.default, apart, sizes)
    return program.insert(node, aten.flatten.using_ints, many, dim, dim + 1)


def sym_size(program: Program, node: fx.Node) -> fx.Node | None:
    """Any size that depends on the batch, read off the input."""
    kind = node.meta["type"]
    if not isinstance(kind, IntType) or not isinstance(kind.value, Dim):
        return None  # a literal: its users take it as one
    owner, dim = next(
        (each, position)
        for each in program.inputs
        for position, size in enumerate(shape(each))
        if isinstance(size, Dim)
    )
    if node.target is aten.sym_size.int and node.args == (owner, dim):
        return None
    times, plus = kind.value.times, kind.value.plus
    if node.target in (operator.mul, operator.add) and _over_batch(node, owner, dim):
        return None
    size = program.insert(node, aten.sym_size.int, owner, dim)
    if times != 1:
        size = program.insert(node, operator.mul, size, times)
    return size if plus == 0 else program.insert(node, operator.add, size, plus)


def _over_batch(node: fx.Node, owner: fx.Node, dim: int) -> bool:
    """Is this `sym_size(owner, dim) * times [+ plus]` already?"""
    inner, number = node.args[0], node.args[1]
    if not isinstance(inner, fx.Node) or not isinstance(number, int):
        return False
    if inner.target is operator.mul and node.target is operator.add:
        return _over_batch(inner, owner, dim)
    return inner.target is aten.sym_size.int and inner.args == (owner, dim)


LAYOUT: dict[Any, Rule] = {
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
    aten.slice.Tensor: slice_,
    aten.narrow.default: narrow,
    aten.select.int: select,
    operator.getitem: part,
    aten.stack.default: stack,
    aten.cat.default: cat,
    aten.copy.default: copy,
    aten.slice_scatter.default: scatter,
    aten.select_scatter.default: scatter,
    aten.pad.default: pad,
    aten.constant_pad_nd.default: pad,
    aten.repeat.default: repeat,
    aten.tile.default: repeat,
    aten.repeat_interleave.self_int: repeat_each,
    **dict.fromkeys((aten.sym_size.int, *INTEGER), sym_size),
}
"""Rule by operator."""
