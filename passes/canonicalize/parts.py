"""Rules of `canonicalize` for operators that take tensors apart and put them together: slices, splits, stacks, padding."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.calls import ItemCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, TensorType, TupleType
from vitgraph.passes.canonicalize.rule import WHOLE, Rule, shape, source


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


PARTS: dict[Any, Rule] = {
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
}
"""Rule by operator."""
