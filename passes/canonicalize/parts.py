"""Rules of `canonicalize` for operators that take tensors apart and put them together: slices, splits, stacks, padding."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.calls import ItemCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, TensorType, TupleType
from vitgraph.passes.canonicalize.pooling import largest_of_cells
from vitgraph.passes.canonicalize.rule import WHOLE, Rule, call_by_name, cast, constant, shape, source


def slice_(program: Program, node: fx.Node) -> fx.Node | None:
    """A slice with start and end counted from the front."""
    values, before = arguments(node), shape(source(node))
    dim: int = values["dim"] % len(before)
    start, end, step = values["start"] or 0, values["end"], values["step"]
    size = before[dim]
    if before == shape(node) and step == 1:
        return source(node)
    if isinstance(size, int) and isinstance(start, int):
        start = _bound(start, size)
    if isinstance(size, int) and (end is None or isinstance(end, int)):
        end = size if end is None else _bound(end, size)
    wanted = (source(node), dim, start, WHOLE if end is None else end, step)
    if node.target is aten.slice.Tensor and node.args == wanted and not node.kwargs:
        return None
    return program.insert(node, aten.slice.Tensor, *wanted)


def _bound(place: int, size: int) -> int:
    """A bound of a slice counted from the front; one that lies outside is moved to the nearest end."""
    return min(size, max(0, place + size if place < 0 else place))


def narrow(program: Program, node: fx.Node) -> fx.Node | None:
    """`narrow(x, dim, start, length)`."""
    values = arguments(node)
    if not isinstance(values["start"], int) or not isinstance(values["length"], int):
        return None
    dim: int = values["dim"]
    start: int = values["start"]
    if start < 0:
        size = shape(source(node))[dim]
        if not isinstance(size, int):
            return None
        start += size
    return program.insert(node, aten.slice.Tensor, source(node), dim, start, start + values["length"], 1)


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
    whole, index = source(node), ItemCall(node).index
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
    if whole.target in _MOMENTS:
        return _moment(program, node, whole, index)
    if whole.target in (aten.sort.default, aten.sort.stable):
        return _sorted(program, node, whole, index)
    if whole.target in (aten.adaptive_max_pool1d.default, aten.adaptive_max_pool2d.default) and index == 0:
        return largest_of_cells(program, node, whole)
    own = RESULTS.get((whole.target, index))
    if own is None:
        return None
    values = arguments(whole)
    return program.insert(node, own[0], *[values[name] for name in own[1].split()])


RESULTS: dict[tuple[Any, int], tuple[Any, str]] = {
    (aten.native_layer_norm.default, 0): (aten.layer_norm.default, "input normalized_shape weight bias eps"),
    (aten.max_pool2d_with_indices.default, 0): (
        aten.max_pool2d.default,
        "self kernel_size stride padding dilation ceil_mode",
    ),
    (aten.max.dim, 0): (aten.amax.default, "self dim keepdim"),
    (aten.min.dim, 0): (aten.amin.default, "self dim keepdim"),
    (aten.max.dim, 1): (aten.argmax.default, "self dim keepdim"),
    (aten.min.dim, 1): (aten.argmin.default, "self dim keepdim"),
    (aten.aminmax.default, 0): (aten.amin.default, "self dim keepdim"),
    (aten.aminmax.default, 1): (aten.amax.default, "self dim keepdim"),
}
"""Results that have an operator of their own: that, and which arguments it takes."""

_MOMENTS = {
    getattr(getattr(aten, f"{name}_mean"), overload): getattr(getattr(aten, name), overload)
    for name in ("var", "std")
    for overload in ("default", "dim", "correction")
}
"""`var_mean` and `std_mean`, and the operator of their first result, which takes the same arguments."""


def _moment(program: Program, node: fx.Node, whole: fx.Node, index: int) -> fx.Node:
    if index == 0:
        return call_by_name(program, node, _MOMENTS[whole.target], arguments(whole))
    values = arguments(whole)
    return program.insert(node, aten.mean.dim, source(whole), values.get("dim"), values.get("keepdim", False))


def _sorted(program: Program, node: fx.Node, whole: fx.Node, index: int) -> fx.Node | None:
    """A sort is the largest, or smallest, of all."""
    values, first = arguments(whole), source(whole)
    dim: int = values["dim"]
    size = shape(first)[dim] if shape(first) else None
    if not isinstance(size, int):
        return None
    best = program.insert(node, aten.topk.default, first, size, dim, values["descending"], True)
    return program.insert(node, operator.getitem, best, index)


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
    old, new = source(node), cast(program, node, arguments(node)["src"], node.meta["type"].dtype)
    return program.insert(node, aten.expand_as.default, new, old)


def scatter(program: Program, node: fx.Node) -> fx.Node | None:
    """A tensor with a part written over is a cat: what stands before the part, the part, what stands after it."""
    values, sizes = arguments(node), shape(node)
    dim: int = values["dim"] % len(sizes)
    size, part_ = sizes[dim], values["src"]
    if not isinstance(size, int):
        return None
    start = values["index"] % size if "index" in values else _bound(values["start"] or 0, size)
    if "index" in values:
        part_ = program.insert(node, aten.unsqueeze.default, part_, dim)
    part_ = cast(program, node, part_, node.meta["type"].dtype)
    written = shape(part_)[dim]
    assert isinstance(written, int)
    if values.get("step", 1) != 1:
        return _scatter_apart(program, node, part_, dim, list(range(start, size, values["step"])))
    end = start + written
    whole = source(node)
    before = [program.insert(node, aten.slice.Tensor, whole, dim, 0, start, 1)] if start else []
    after = [program.insert(node, aten.slice.Tensor, whole, dim, end, size, 1)] if end < size else []
    return program.insert(node, aten.cat.default, [*before, part_, *after], dim)


def _scatter_apart(program: Program, node: fx.Node, part_: fx.Node, dim: int, places: list[int]) -> fx.Node:
    """Rows written here and there: both tensors one after the other, and each row picked from where it is now."""
    size, written = shape(node)[dim], shape(part_)[dim]
    assert isinstance(size, int)
    assert isinstance(written, int)
    order = torch.arange(size)
    order[places[:written]] = size + torch.arange(written)
    both = program.insert(node, aten.cat.default, [source(node), part_], dim)
    return program.insert(node, aten.index_select.default, both, dim, constant(program, node, "rows", order))


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


def copy_or_fill(program: Program, node: fx.Node) -> fx.Node | None:
    """torch takes a number too for what is written over all of a tensor."""
    value = arguments(node)["src"]
    if isinstance(value, fx.Node):
        return copy(program, node)
    return program.insert(node, aten.full_like.default, source(node), value)


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


PARTS: dict[Any, Rule] = {
    aten.slice.Tensor: slice_,
    aten.narrow.default: narrow,
    aten.select.int: select,
    operator.getitem: part,
    aten.stack.default: stack,
    aten.cat.default: cat,
    aten.copy.default: copy_or_fill,
    aten.slice_scatter.default: scatter,
    aten.select_scatter.default: scatter,
    aten.pad.default: pad,
    aten.constant_pad_nd.default: pad,
    aten.repeat.default: repeat,
    aten.tile.default: repeat,
    aten.repeat_interleave.self_int: repeat_each,
}
"""Rule by operator."""
