"""ONNX operators that move values about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.frontend.from_onnx.importing import Importer, Rule, number_of
from vitgraph.frontend.from_onnx.node import OnnxNode, constants
from vitgraph.frontend.from_onnx.values import Known, Refusal, Tensorial, Value, through, type_of
from vitgraph.ir.calls import SliceCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.tensor_type import SAMPLES, Dim, Size

_END = 2**31 - 1
"""From here on a bound of a slice means `to the end`: the largest INT32, and INT64."""


def _reshape(im: Importer, n: OnnxNode) -> Value:
    """A size of 0 stands for the one that was there (unless `allowzero`), -1 for what is left."""
    wanted = im.sizes(n[1], "shape")
    have = type_of(n[0]).shape
    if not n.whole("allowzero"):
        for axis, size in enumerate(wanted):
            if size == 0 and axis >= len(have):
                raise Refusal(f"its shape {wanted} keeps a size that is not there")
        wanted = [have[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return im.reshape(n[0], _whole(have, wanted))


def _whole(have: Sequence[Size], wanted: list[Size]) -> list[Size]:
    """The sizes with -1 worked out; as they are where that does not come out even, which the operator then tells."""
    if -1 not in wanted:
        return wanted
    rest = list[int]()
    for batch in SAMPLES:
        known = math.prod(_at(size, batch) for size in wanted if size != -1)
        total = math.prod(_at(size, batch) for size in have)
        if known == 0 or total % known:
            return wanted
        rest.append(total // known)
    return [through(rest) if size == -1 else size for size in wanted]


def _at(size: Size, batch: int) -> int:
    return size.at(batch) if isinstance(size, Dim) else size


def _flatten(im: Importer, n: OnnxNode) -> Value:
    have = type_of(n[0]).shape
    axis = n.whole("axis", 1)
    axis = axis + len(have) if axis < 0 else axis
    return im.reshape(n[0], [_product(have[:axis]), _product(have[axis:])])


def _product(sizes: Sequence[Size]) -> Size:
    return through([math.prod(_at(size, batch) for size in sizes) for batch in SAMPLES])


def _transpose(im: Importer, n: OnnxNode) -> Value:
    x = n[0]
    rank = type_of(x).rank
    order = n.ints("perm", range(rank - 1, -1, -1)) or []
    if sorted(order) != list(range(rank)):
        raise Refusal(f"its order {order} is none of {rank} dimensions")
    return turned(im, x, order)


def turned(im: Importer, x: Tensorial, order: Sequence[int]) -> Tensorial:
    """The axes in another order; of a quantized constant its codes, so that it stays one."""
    if isinstance(x, Known):
        return im.turned(x, tuple(order)) if x.constant is not None else im.call(aten.permute.default, x, list(order))
    if x in im.weights:
        target, codes, scale, axis, form = im.weights[x]
        axis = None if axis is None else list(order).index(axis)
        new = im.emit(target, im.node(im.turned(codes, tuple(order)), "weight"), im.node(scale, "scale"), axis, form)
        im.weights[new] = (target, im.turned(codes, tuple(order)), scale, axis, form)
        return new
    return im.call(aten.permute.default, x, list(order))


def _squeeze(im: Importer, n: OnnxNode) -> Value:
    have, axes = type_of(n[0]).shape, n.numbers(1, "axes")
    dropped = [axis for axis, size in enumerate(have) if size == 1] if axes is None else [a % len(have) for a in axes]
    if any(have[axis] != 1 for axis in dropped):
        raise Refusal(f"axes {dropped} of [{', '.join(map(str, have))}] are not all of size 1")
    return _selected(im, n[0], dropped) or im.reshape(
        n[0], [size for axis, size in enumerate(have) if axis not in dropped]
    )


def _selected(im: Importer, x: Tensorial, dropped: list[int]) -> Tensorial | None:
    """A slice of one element whose axis is dropped picks this element: what `unbind` was before it was exported."""
    cut = SliceCall.of(x) if isinstance(x, fx.Node) else None
    if cut is None or [cut.dim] != dropped:
        return None
    return im.call(aten.select.int, cut.data, cut.dim, cut.start)


def _unsqueeze(im: Importer, n: OnnxNode) -> Value:
    axes, sizes = n.numbers(1, "axes") or [], list(type_of(n[0]).shape)
    rank = len(sizes) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        sizes.insert(axis, 1)
    return im.reshape(n[0], sizes)


def _concat(im: Importer, n: OnnxNode) -> Value:
    return im.call(aten.cat.default, n.all(), n.whole("axis"))


def _split(im: Importer, n: OnnxNode) -> tuple[Value, ...]:
    x, axis = n[0], n.whole("axis")
    axis %= type_of(x).rank
    total, sizes = type_of(x).shape[axis], n.numbers(1, "split")
    if isinstance(total, Dim):
        raise Refusal("it splits along the batch")
    if sizes is None:
        each = -(-total // n.outputs)
        sizes = [min(each, total - start) for start in range(0, total, each)] if each else []
    if sum(sizes) != total or len(sizes) != n.outputs:
        raise Refusal(f"it splits {total} into {sizes} for {n.outputs} outputs")
    starts = [sum(sizes[:position]) for position in range(len(sizes))]
    return tuple(im.call(aten.slice.Tensor, x, axis, at, at + size, 1) for at, size in zip(starts, sizes, strict=True))


def _slice(im: Importer, n: OnnxNode) -> Value:
    x: Tensorial = n[0]
    starts, ends = im.sizes(n[1], "start"), im.sizes(n[2], "end")
    axes = n.numbers(3, "axes") or list(range(len(starts)))
    steps = n.numbers(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= type_of(x).rank
        x = _cut(im, x, axis, start, end, step)
    return x


def _cut(im: Importer, x: Tensorial, axis: int, start: Size, end: Size, step: int) -> Tensorial:
    """`x[start:end:step]` along an axis; backwards only all of it, turned around."""
    size = type_of(x).shape[axis]
    if step < 0:
        if isinstance(start, Dim) or isinstance(end, Dim) or isinstance(size, Dim):
            raise Refusal("it goes backwards between bounds that hang on the batch")
        if step != -1 or -1 < start < size - 1 or start < -1 or end >= -size:
            raise Refusal("it goes backwards through a part; only a whole axis in steps of -1 is taken")
        return im.call(aten.flip.default, x, [axis])
    if start == 0 and step == 1 and (end == size or (isinstance(end, int) and end >= _END)):
        return x
    if isinstance(end, int) and isinstance(size, int):
        end = min(end, size)
    return im.call(aten.slice.Tensor, x, axis, start, end, step)


def _gather(im: Importer, n: OnnxNode) -> Value:
    x, index, axis = n[0], n[1], n.whole("axis")
    kind = type_of(x)
    axis %= max(kind.rank, 1)
    number = number_of(index)
    if number is not None and type_of(index).rank == 0:
        return im.call(aten.select.int, x, axis, int(number))
    if isinstance(index, Known) and index.constant is not None and not isinstance(kind.shape[axis], Dim):
        index = _in_range(index.constant.long(), int(str(kind.shape[axis])))
    picked = im.call(aten.index_select.default, x, axis, im.reshape(index, [_product(type_of(index).shape)]))
    if type_of(index).rank == 1:
        return picked
    return im.reshape(picked, [*kind.shape[:axis], *type_of(index).shape, *kind.shape[axis + 1 :]])


def _in_range(index: Tensor, size: int) -> Known:
    """Positions counted from the front."""
    forward = torch.where(index < 0, index + size, index)
    if bool(((forward < 0) | (forward >= size)).any()):
        raise Refusal(f"it reads beyond the {size} that are there")
    return Known((forward,))


def _gather_elements(im: Importer, n: OnnxNode) -> Value:
    return im.emit(aten.gather.default, n[0], n.whole("axis"), n[1])


def _expand(im: Importer, n: OnnxNode) -> Value:
    """To the shape that both give where they are brought together."""
    have, wanted = list(type_of(n[0]).shape), im.sizes(n[1], "shape")
    rank = max(len(have), len(wanted))
    ones: list[Size] = [1] * rank
    have, wanted = [*ones[len(have) :], *have], [*ones[len(wanted) :], *wanted]
    sizes = [size if other == 1 else other for size, other in zip(have, wanted, strict=True)]
    return n[0] if sizes == list(type_of(n[0]).shape) else im.call(aten.expand.default, n[0], sizes)


def _tile(im: Importer, n: OnnxNode) -> Value:
    repeats = im.sizes(n[1], "repeats")
    return n[0] if all(each == 1 for each in repeats) else im.call(aten.repeat.default, n[0], repeats)


def _pad(im: Importer, n: OnnxNode) -> Value:
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    mode, rank = n.text("mode", "constant"), type_of(n[0]).rank
    pads = n.numbers(1, "pads") or []
    axes = list(range(rank)) if n.get(3) is None else [axis % rank for axis in constants(n.known(3, "axes"), "axes")]
    filler = n.get(2)
    value = 0 if filler is None else number_of(filler)
    if value is None or mode not in modes or len(pads) != 2 * len(axes):
        raise Refusal(f"its {mode} pads {pads} and filler are not taken")
    around = {axis: (pads[at], pads[at + len(axes)]) for at, axis in enumerate(axes)}
    last_first = [side for axis in range(rank - 1, -1, -1) for side in around.get(axis, (0, 0))]
    least = 2 if mode == "constant" else 2 * max(rank - 2, 1)  # torch mirrors all axes of an image, or none
    while len(last_first) > least and last_first[-2:] == [0, 0]:
        last_first = last_first[:-2]
    if not any(last_first):
        return n[0]
    return im.emit(aten.pad.default, n[0], last_first, modes[mode], value if mode == "constant" else None)


def _depth_to_space(im: Importer, n: OnnxNode) -> Value:
    """`CRD` is torch's order; in `DCR` the position in the block stands ahead of the channel."""
    x, block = n[0], n.whole("blocksize")
    if n.text("mode", "DCR") == "CRD":
        return im.emit(aten.pixel_shuffle.default, x, block)
    batch, channels, height, width = type_of(x).shape
    depth = int(str(channels)) // (block * block)
    parts = im.reshape(x, [batch, block, block, depth, height, width])
    moved = im.call(aten.permute.default, parts, [0, 3, 4, 1, 5, 2])
    return im.reshape(moved, [batch, depth, int(str(height)) * block, int(str(width)) * block])


def _space_to_depth(im: Importer, n: OnnxNode) -> Value:
    x, block = n[0], n.whole("blocksize")
    batch, channels, height, width = type_of(x).shape
    rows, columns = int(str(height)) // block, int(str(width)) // block
    parts = im.reshape(x, [batch, channels, rows, block, columns, block])
    moved = im.call(aten.permute.default, parts, [0, 3, 5, 1, 2, 4])
    return im.reshape(moved, [batch, int(str(channels)) * block * block, rows, columns])


def _triangle(im: Importer, n: OnnxNode) -> Value:
    target: Any = aten.triu.default if n.whole("upper", 1) else aten.tril.default
    along = n.get(1)
    diagonal = 0 if along is None else number_of(along)
    if isinstance(n[0], fx.Node) or diagonal is None:
        raise Refusal("a triangle of what is computed")
    return im.call(target, n[0], int(diagonal))


LAYOUT: Mapping[str, Rule] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Trilu": _triangle,
}
