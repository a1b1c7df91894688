"""ONNX forms of what works on images `[N, C, H, W]`: pooling and sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from vitgraph.backends.onnx.graph_builder import (
    Call,
    Lowering,
    NoLowering,
    Result,
    Table,
    tensor_type,
)
from vitgraph.backends.onnx.layout_forms import pad_image
from vitgraph.ir.dialect import aten


def image_size(node: Any) -> tuple[int, int]:
    """Height and width of an image batch `[N, C, H, W]`, which must be known."""
    kind = tensor_type(node)
    if kind.rank != 4 or not isinstance(kind.shape[2], int) or not isinstance(kind.shape[3], int):
        raise NoLowering(f"takes an image batch [N, C, H, W] of known size, not {kind}")
    return kind.shape[2], kind.shape[3]


def _both(values: Any) -> list[int]:
    """Two numbers, where one may be given for both."""
    listed = [int(value) for value in (values if isinstance(values, list | tuple) else [values])]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return listed * 2 if len(listed) == 1 else listed


def _reach(call: Call, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Padding needed after the image so that a pooling gives the size torch says.

    ONNX's ceil_mode is not used: it differs from torch's where the last window starts in the padding.
    """
    padding, wanted, sizes = _both(call["padding"]), image_size(call.node), image_size(call["self"])
    return [
        max(p, (out - 1) * s + d * (k - 1) + 1 - size - p)
        for out, s, d, k, size, p in zip(wanted, stride, dilation, kernel, sizes, padding, strict=True)
    ]


def _max_pool(g: Lowering, call: Call) -> Result:
    """Windows with gaps are padded apart: ONNX Runtime takes no padding as wide as the kernel, whatever its dilation."""
    kernel, dilation = _both(call["kernel_size"]), _both(call["dilation"])
    stride = _both(call["stride"]) if call["stride"] else kernel
    pads = _both(call["padding"]) + _reach(call, kernel, stride, dilation)
    x = g.value(call["self"])
    if dilation != [1, 1] and any(pads):
        x = pad_image(g, x, pads, g.number(_least(call.type.dtype), call.type.dtype))
        pads = [0, 0, 0, 0]
    return g.emit("MaxPool", x, kernel_shape=kernel, strides=stride, pads=pads, dilations=dilation)


def _least(dtype: torch.dtype) -> float:
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def _avg_pool(g: Lowering, call: Call) -> Result:
    kernel, padding = _both(call["kernel_size"]), _both(call["padding"])
    stride = _both(call["stride"]) if call["stride"] else kernel
    ends = _reach(call, kernel, stride, [1, 1])
    divisor = call["divisor_override"]
    count_pads = bool(call["count_include_pad"]) or divisor is not None
    if ends != padding and divisor is None:  # torch counts the padding, but not what ceil_mode reaches beyond it
        if count_pads and any(padding):
            raise NoLowering("average pooling with ceil_mode, padding and count_include_pad together has no lowering")
        count_pads = False
    y = g.emit(
        "AveragePool",
        g.value(call["self"]),
        kernel_shape=kernel,
        strides=stride,
        pads=padding + ends,
        count_include_pad=int(count_pads),
    )
    return y if divisor is None else g.emit("Mul", y, g.number(math.prod(kernel) / divisor, call.type.dtype))


def _adaptive_avg_pool(g: Lowering, call: Call) -> Result:
    """A mean, an average pooling, or, where windows overlap unevenly, a product with a matrix from each side."""
    sizes, wanted = image_size(call["self"]), image_size(call.node)
    x = g.value(call["self"])
    if wanted == (1, 1):
        return g.emit("ReduceMean", x, g.ints([2, 3]), keepdims=1)
    kernel = _even_windows(sizes, wanted)
    if kernel is not None:
        return g.emit("AveragePool", x, kernel_shape=kernel, strides=kernel)
    rows, columns = (
        _averaging(g, size, out, call.type.dtype, left)
        for size, out, left in zip(sizes, wanted, (True, False), strict=True)
    )
    return g.emit("MatMul", g.emit("MatMul", rows, x), columns)


def _averaging(g: Lowering, size: int, out: int, dtype: torch.dtype, left: bool) -> ir.Value:
    """The matrix `[out, size]` of an adaptive mean, transposed where it multiplies from the right."""
    matrix = torch.zeros(out, size, dtype=torch.float64)
    for row in range(out):
        start, end = row * size // out, -(-(row + 1) * size // out)
        matrix[row, start:end] = 1 / (end - start)
    name = f"averaging/{size}to{out}/{dtype}{'' if left else '/transposed'}"
    return g.small(name, (matrix if left else matrix.t()).to(dtype).contiguous())


def _even_windows(sizes: Sequence[int], wanted: Sequence[int]) -> list[int] | None:
    """The window by which each size divides into the wanted number, or None."""
    pairs = list(zip(sizes, wanted, strict=True))
    return [size // out for size, out in pairs] if all(size % out == 0 for size, out in pairs) else None


def _grid_sample(g: Lowering, call: Call) -> Result:
    return g.emit(
        "GridSample",
        g.value(call["input"]),
        g.value(call["grid"]),
        mode=("linear", "nearest", "cubic")[call["interpolation_mode"]],
        padding_mode=("zeros", "border", "reflection")[call["padding_mode"]],
        align_corners=int(call["align_corners"]),
    )


IMAGE: Table = {
    aten.max_pool2d.default: _max_pool,
    aten.avg_pool2d.default: _avg_pool,
    aten.adaptive_avg_pool2d.default: _adaptive_avg_pool,
    aten.grid_sampler.default: _grid_sample,
}
