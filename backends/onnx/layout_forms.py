"""ONNX forms of what moves values about: shapes, slices, joins, gathers, windows, and whole numbers."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import fx

from vitgraph.backends.onnx.graph_builder import Call, Lowering, NoLowering, Result, Table, onnx_code, tensor_type
from vitgraph.ir.dialect import aten
from vitgraph.ir.tensor_type import Dim, Size

END = 2**63 - 1
"""What ONNX's Slice reads as `to the end`."""


def slice_axis(g: Lowering, x: ir.Value, axis: int, start: Any, end: Any, step: int = 1) -> ir.Value:
    """`x[start:end:step]` along one axis; a bound may be computed in the graph."""
    return g.emit("Slice", x, g.sizes([start]), g.sizes([end]), g.ints([axis]), g.ints([step]))


def _reshape(g: Lowering, call: Call) -> Result:
    return g.reshape(g.value(call["self"]), tensor_type(call["self"]).shape, call.type.shape)


def _permute(g: Lowering, call: Call) -> Result:
    rank = call.type.rank
    return g.transpose(g.value(call["self"]), [axis % rank for axis in call["dims"]])


def _expand(g: Lowering, call: Call) -> Result:
    have, want = tensor_type(call["self"]).shape, call.type.shape
    if list(have) == list(want):
        return g.value(call["self"])
    sizes = [1 if isinstance(size, int) and size == -1 else size for size in call["size"]]
    return g.emit("Expand", g.value(call["self"]), g.sizes(sizes))


def _slice(g: Lowering, call: Call) -> Result:
    if tensor_type(call["self"]).shape == call.type.shape:
        return g.value(call["self"])  # the whole of it
    start = 0 if call["start"] is None else call["start"]
    end = END if call["end"] is None else call["end"]
    return slice_axis(g, g.value(call["self"]), int(call["dim"]), start, end, int(call["step"]))


def _select(g: Lowering, call: Call) -> Result:
    index = call["index"]
    at = g.number(index, torch.int64) if isinstance(index, int) else g.emit("Squeeze", g.value(index), g.ints([0]))
    return g.emit("Gather", g.value(call["self"]), at, axis=int(call["dim"]))


def _cat(g: Lowering, call: Call) -> Result:
    dtype = call.type.dtype
    parts = [node for node in call["tensors"] if tensor_type(node).shape != (0,)]  # torch lets an empty vector pass
    return g.emit("Concat", *(g.operand(node, dtype) for node in parts), axis=int(call["dim"]))


def _pad(g: Lowering, call: Call) -> Result:
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    pads = [int(pad) for pad in call["pad"]]
    ahead, after = ([*[0] * (call.type.rank - len(pads) // 2), *pads[side::2][::-1]] for side in (0, 1))
    filler = g.number(call["value"] or 0.0, call.type.dtype) if call["mode"] == "constant" else None
    cut = call["mode"] in ("reflect", "replicate")  # torch cuts what it has padded; ONNX Runtime pads what it has cut
    pads = [max(pad, 0) if cut else pad for pad in (*ahead, *after)]
    padded = g.emit("Pad", g.value(call["self"]), g.ints(pads), filler, mode=modes[call["mode"]])
    for axis, (first, last) in enumerate(zip(ahead, after, strict=True)):
        if cut and min(first, last) < 0:
            padded = slice_axis(g, padded, axis, max(-first, 0), last if last < 0 else END)
    return padded


def pad_image(g: Lowering, x: ir.Value, pads: Sequence[int], filler: ir.Value) -> ir.Value:
    """Pads of `[N, C, H, W]`: above, left, below, right. Of all axes: ONNX Runtime forgets which are meant ahead of a transpose."""
    return g.emit("Pad", x, g.ints([0, 0, *pads[:2], 0, 0, *pads[2:]]), filler)


def _roll(g: Lowering, call: Call) -> Result:
    x, kind = g.value(call["self"]), tensor_type(call["self"])
    if not call["dims"]:
        raise NoLowering("a roll of the flattened tensor has no lowering; give its axes")
    for shift, axis in zip(map(int, call["shifts"]), map(int, call["dims"]), strict=True):
        size = kind.shape[axis]
        if isinstance(size, Dim):
            raise NoLowering("a roll along the batch has no lowering")
        if (cut := -shift % size) != 0:
            x = g.emit("Concat", slice_axis(g, x, axis, cut, END), slice_axis(g, x, axis, 0, cut), axis=axis)
    return x


def _flip(g: Lowering, call: Call) -> Result:
    axes = [int(axis) for axis in call["dims"]]
    if not axes:
        return g.value(call["self"])
    count = len(axes)
    return g.emit(
        "Slice", g.value(call["self"]), g.ints([-1] * count), g.ints([-END] * count), g.ints(axes), g.ints([-1] * count)
    )


def _repeat(g: Lowering, call: Call) -> Result:
    kind, repeats = tensor_type(call["self"]), call["repeats"]
    lead: list[Size] = [1] * (len(repeats) - kind.rank)
    x = g.reshape(g.value(call["self"]), kind.shape, [*lead, *kind.shape])
    return g.emit("Tile", x, g.sizes(repeats))


def _index(g: Lowering, call: Call) -> Result:
    kind = tensor_type(call["self"])
    used = [(axis, index) for axis, index in enumerate(call["indices"]) if index is not None]
    if any(tensor_type(index).dtype in (torch.bool, torch.uint8) for _, index in used):
        raise NoLowering("an index by a mask has a size that depends on the values; index by positions")
    x = g.value(call["self"])
    if len(used) == 1:
        return g.emit("Gather", x, g.value(used[0][1]), axis=used[0][0])
    return _index_several(g, x, kind.shape, used)


def _index_several(g: Lowering, x: ir.Value, shape: Sequence[Size], used: list[tuple[int, fx.Node]]) -> ir.Value:
    """`x[:, i, j]`: neighbouring axes flattened into one, and one Gather at i * size + j; the first may be the batch."""
    axes = [axis for axis, _ in used]
    first, *sizes = (shape[axis] for axis in axes)
    if axes != list(range(axes[0], axes[0] + len(axes))) or any(isinstance(size, Dim) for size in sizes):
        raise NoLowering("an index by several tensors takes neighbouring axes, of known size but for the first")
    flat = _counted_from_zero(g, used[0][1], _length(g, x, axes[0], first))
    for size, (_, node) in zip(sizes, used[1:], strict=True):
        length = g.number(int(str(size)), torch.int64)
        flat = g.emit("Add", g.emit("Mul", flat, length), _counted_from_zero(g, node, length))
    rest = math.prod(int(str(size)) for size in sizes)
    total = Dim(first.times * rest, first.plus * rest) if isinstance(first, Dim) else first * rest
    merged = [*shape[: axes[0]], total, *shape[axes[-1] + 1 :]]
    return g.emit("Gather", g.reshape(x, shape, merged), flat, axis=axes[0])


def _length(g: Lowering, x: ir.Value, axis: int, size: Size) -> ir.Value:
    """The size of an axis, as a number of the graph."""
    if not isinstance(size, Dim):
        return g.number(size, torch.int64)
    return g.emit("Squeeze", g.emit("Shape", x, start=axis, end=axis + 1), g.ints([0]))


def _counted_from_zero(g: Lowering, node: fx.Node, length: ir.Value) -> ir.Value:
    """Positions, of which negative ones count from the end."""
    index = g.operand(node, torch.int64)
    negative = g.emit("Less", index, g.number(0, torch.int64))
    return g.emit("Where", negative, g.emit("Add", index, length), index)


def _index_select(g: Lowering, call: Call) -> Result:
    return g.emit("Gather", g.value(call["self"]), g.value(call["index"]), axis=int(call["dim"]))


def _gather(g: Lowering, call: Call) -> Result:
    """OpenVINO takes an index as large as the data in all other dimensions, so what lies beyond it is left out.

    By positions: OpenVINO 2026.4 drops a slice ahead of a gather (EliminateSliceBeforeGatherElements), then finds the sizes apart.
    """
    kind, index = tensor_type(call["self"]), tensor_type(call["index"])
    x, along = g.value(call["self"]), int(call["dim"])
    for axis, (size, read) in enumerate(zip(kind.shape, index.shape, strict=True)):
        if isinstance(read, int) and size != read and axis != along % kind.rank:
            x = g.emit("Gather", x, g.ints(range(read)), axis=axis)
    return g.emit("GatherElements", x, g.value(call["index"]), axis=along)


def _embedding(g: Lowering, call: Call) -> Result:
    return g.emit("Gather", g.value(call["weight"]), g.value(call["indices"]), axis=0)


def _unfold(g: Lowering, call: Call) -> Result:
    """Windows along one axis, as a new last axis."""
    kind = tensor_type(call["self"])
    axis, size, step = int(call["dimension"]) % kind.rank, int(call["size"]), int(call["step"])
    length = kind.shape[axis]
    if isinstance(length, Dim):
        raise NoLowering("windows along the batch have no lowering")
    x = _gather_windows(g, g.value(call["self"]), axis, _windows(length, size, step, 1).t())  # [.., windows, size, ..]
    inside = axis + 1
    order = [number for number in range(kind.rank + 1) if number != inside] + [inside]
    return g.transpose(x, order)


def _windows(length: int, kernel: int, stride: int, dilation: int) -> torch.Tensor:
    """Positions `[kernel, windows]` of a sliding window."""
    count = (length - dilation * (kernel - 1) - 1) // stride + 1
    return torch.arange(kernel).reshape(-1, 1) * dilation + torch.arange(count).reshape(1, -1) * stride


def _gather_windows(g: Lowering, x: ir.Value, axis: int, positions: torch.Tensor) -> ir.Value:
    """Replace one axis by the two of `positions`, which their first row and column tell apart."""
    first_row, first_column = ([int(position) for position in line] for line in (positions[0], positions[:, 0]))
    name = f"windows/{first_row}x{first_column}"
    return g.emit("Gather", x, g.small(name, positions.contiguous()), axis=axis)


def _im2col(g: Lowering, call: Call) -> Result:
    """`[N, C, H, W]` to `[N, C * kh * kw, windows]`."""
    n, c, height, width = tensor_type(call["self"]).shape
    (kh, kw), (dh, dw) = call["kernel_size"], call["dilation"]
    (ph, pw), (sh, sw) = call["padding"], call["stride"]
    if isinstance(height, Dim) or isinstance(width, Dim) or isinstance(c, Dim):
        raise NoLowering("windows over an image of unknown size have no lowering")
    x = g.value(call["self"])
    if ph or pw:
        x = pad_image(g, x, [ph, pw, ph, pw], g.number(0.0, call.type.dtype))
    rows, columns = _windows(height + 2 * ph, kh, sh, dh), _windows(width + 2 * pw, kw, sw, dw)
    x = _gather_windows(g, x, 2, rows)  # [N, C, kh, oh, W]
    x = _gather_windows(g, x, 4, columns)  # [N, C, kh, oh, kw, ow]
    x = g.transpose(x, [0, 1, 2, 4, 3, 5])
    have: list[Size] = [n, c, kh, kw, rows.shape[1], columns.shape[1]]
    return g.reshape(x, have, call.type.shape)


def _pixel_shuffle(g: Lowering, call: Call) -> Result:
    if call.type.rank != 4:
        raise NoLowering("pixel_shuffle takes [N, C, H, W] here")
    return g.emit("DepthToSpace", g.value(call["self"]), blocksize=int(call["upscale_factor"]), mode="CRD")


def _pixel_unshuffle(g: Lowering, call: Call) -> Result:
    """Not SpaceToDepth, which puts the position in the block ahead of the channel."""
    if call.type.rank != 4:
        raise NoLowering("pixel_unshuffle takes [N, C, H, W] here")
    n, c, h, w = tensor_type(call["self"]).shape
    factor = int(call["downscale_factor"])
    _, _, rows, columns = call.type.shape
    split: list[Size] = [n, c, rows, factor, columns, factor]
    x = g.transpose(g.reshape(g.value(call["self"]), [n, c, h, w], split), [0, 1, 3, 5, 2, 4])
    return g.reshape(x, [n, c, factor, factor, rows, columns], call.type.shape)


def _to_dtype(g: Lowering, call: Call) -> Result:
    have, want = tensor_type(call["self"]).dtype, call.type.dtype
    if have == want:
        return g.value(call["self"])
    return g.emit("Cast", g.value(call["self"]), to=int(onnx_code(want)))


def _sym_size(g: Lowering, call: Call) -> Result:
    shape = g.emit("Shape", g.value(call["self"]))
    return g.emit("Gather", shape, g.ints([int(call["dim"]) % tensor_type(call["self"]).rank]), axis=0)


def _getitem(g: Lowering, call: Call) -> Result:
    items = g.values[call["a"]]
    if not isinstance(items, tuple):
        raise NoLowering("an item of what is not a tuple")
    return items[int(call["b"])]


def _integer(op: str) -> Any:
    def lower(g: Lowering, call: Call) -> Result:
        return g.emit(op, g.value(call["a"]), g.value(call["b"]))

    return lower


LAYOUT: Table = {
    aten.reshape.default: _reshape,
    aten.permute.default: _permute,
    aten.expand.default: _expand,
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.cat.default: _cat,
    aten.pad.default: _pad,
    aten.roll.default: _roll,
    aten.flip.default: _flip,
    aten.repeat.default: _repeat,
    aten.index.Tensor: _index,
    aten.index_select.default: _index_select,
    aten.gather.default: _gather,
    aten.embedding.default: _embedding,
    aten.unfold.default: _unfold,
    aten.im2col.default: _im2col,
    aten.pixel_shuffle.default: _pixel_shuffle,
    aten.pixel_unshuffle.default: _pixel_unshuffle,
    aten.to.dtype: _to_dtype,
    aten.sym_size.int: _sym_size,
    operator.getitem: _getitem,
    operator.add: _integer("Add"),
    operator.sub: _integer("Sub"),
    operator.mul: _integer("Mul"),
    operator.floordiv: _integer("Div"),  # pyright: ignore[reportUnknownMemberType]
}
