"""ONNX reductions, pooling and resizing."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

from vitgraph.frontend.from_onnx.importing import Importer, Rule
from vitgraph.frontend.from_onnx.layers import padded
from vitgraph.frontend.from_onnx.node import OnnxNode
from vitgraph.frontend.from_onnx.values import Refusal, Tensorial, Value, type_of
from vitgraph.ir.dialect import aten
from vitgraph.ir.tensor_type import Dim


def _reduce(target: Any, **fixed: Any) -> Rule:
    """Over some axes, or all; in older operator sets they are an attribute."""

    def rule(im: Importer, n: OnnxNode) -> Value:
        axes = _axes(n)
        return n[0] if axes is None else im.emit(target, n[0], axes, bool(n.whole("keepdims", 1)), **fixed)

    return rule


def _axes(n: OnnxNode) -> list[int] | None:
    """The axes in order; None where an empty list means that nothing is to be done."""
    rank, given = type_of(n[0]).rank, n.numbers(1, "axes")
    if not given:
        return None if n.whole("noop_with_empty_axes") else list(range(rank))
    return sorted(axis % rank for axis in given)


def _squares(im: Importer, n: OnnxNode) -> Value:
    axes = _axes(n)
    square = im.emit(aten.pow.Tensor_Scalar, n[0], 2)
    return square if axes is None else im.emit(aten.sum.dim_IntList, square, axes, bool(n.whole("keepdims", 1)))


def _norm(order: int) -> Rule:
    def rule(im: Importer, n: OnnxNode) -> Value:
        axes = _axes(n)
        if axes is None:
            raise Refusal("a norm over no axes")
        return im.emit(aten.linalg_vector_norm.default, n[0], order, axes, bool(n.whole("keepdims", 1)))

    return rule


def _product(im: Importer, n: OnnxNode) -> Value:
    axes, value = _axes(n), n[0]
    for axis in reversed(axes or []):
        value = im.call(aten.prod.dim_int, value, axis, bool(n.whole("keepdims", 1)))
    return value


def _argmax(im: Importer, n: OnnxNode) -> Value:
    if n.whole("select_last_index"):
        raise Refusal("the last of equal maxima is asked for; the first is taken")
    return im.emit(aten.argmax.default, n[0], n.whole("axis"), bool(n.whole("keepdims", 1)))


def _cumulative_sum(im: Importer, n: OnnxNode) -> Value:
    axis = n.known(1, "axis")
    if n.whole("exclusive") or n.whole("reverse") or axis.constant is None:
        raise Refusal("a running sum is taken forwards, with its own element in it")
    return im.emit(aten.cumsum.default, n[0], int(axis.constant.reshape(()).item()))


def _top(im: Importer, n: OnnxNode) -> tuple[Value, ...]:
    count = n.numbers(1, "k") or [0]
    top = im.emit(aten.topk.default, n[0], count[0], n.whole("axis", -1), bool(n.whole("largest", 1)), True)
    return im.emit(operator.getitem, top, 0), im.emit(operator.getitem, top, 1)


def _image_axes(x: Tensorial) -> list[int]:
    return list(range(2, type_of(x).rank))


def _global_average(im: Importer, n: OnnxNode) -> Value:
    return im.emit(aten.mean.dim, n[0], _image_axes(n[0]), True)


def _global_max(im: Importer, n: OnnxNode) -> Value:
    return im.emit(aten.amax.default, n[0], _image_axes(n[0]), True)


def _average_pool(im: Importer, n: OnnxNode) -> Value:
    kernel, counts = _kernel(n), bool(n.whole("count_include_pad"))
    x, padding = padded(im, n, n[0], kernel, 0.0)
    if x is not n[0] and not counts:
        raise Refusal("it averages over pads that differ between the sides")
    if any(each != 1 for each in n.ints("dilations", [1, 1]) or []):
        raise Refusal("it averages over places that lie apart")
    return im.emit(
        aten.avg_pool2d.default, x, kernel, n.ints("strides", [1, 1]), padding, bool(n.whole("ceil_mode")), counts, None
    )


def _max_pool(im: Importer, n: OnnxNode) -> tuple[Value, ...]:
    if n.outputs != 1:
        raise Refusal("it gives the positions of its maxima")
    kernel = _kernel(n)
    x, padding = padded(im, n, n[0], kernel, -math.inf)
    strides, dilations = n.ints("strides", [1, 1]), n.ints("dilations", [1, 1])
    return (im.emit(aten.max_pool2d.default, x, kernel, strides, padding, dilations, bool(n.whole("ceil_mode"))),)


def _kernel(n: OnnxNode) -> list[int]:
    kernel = n.ints("kernel_shape") or []
    if len(kernel) != 2:
        raise Refusal(f"it pools over {len(kernel)} dimensions; two are taken")
    return kernel


def _resize(im: Importer, n: OnnxNode) -> Value:
    """Of images `[N, C, H, W]`, in the ways that torch has too."""
    x = n[0]
    have = type_of(x).shape
    if len(have) != 4 or any(isinstance(size, Dim) for size in have[2:]):
        raise Refusal("it resizes what is no image [batch, channels, height, width] of known size")
    old = [int(str(size)) for size in have[2:]]
    new, scales = _new_size(im, n, old)
    mode = n.text("mode", "nearest")
    way = n.text("coordinate_transformation_mode", "half_pixel")
    if n.whole("antialias") or n.given("axes") not in (None, [2, 3]) or n.whole("exclude_outside"):
        raise Refusal("a resize with antialiasing, or over other axes than height and width")
    if n.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refusal("a resize that keeps the shape of the image; give the size that it comes to")
    if mode == "nearest":
        rounding = n.text("nearest_mode", "round_prefer_floor")
        if (way, rounding) == ("asymmetric", "floor"):
            return im.emit(aten.upsample_nearest2d.vec, x, new, scales)
        if way == "half_pixel" and rounding == "round_prefer_ceil":
            return im.emit(aten._upsample_nearest_exact2d.vec, x, new, scales)
        raise Refusal(f"the nearest pixel by {way} and {rounding} is not torch's")
    targets: dict[str, Any] = {"linear": aten.upsample_bilinear2d.vec, "cubic": aten.upsample_bicubic2d.vec}
    fits = way in ("half_pixel", "pytorch_half_pixel", "align_corners") and mode in targets
    if not fits or (mode == "cubic" and abs(n.number("cubic_coeff_a", -0.75) + 0.75) > 1e-6):
        raise Refusal(f"a {mode} resize by {way} is not torch's")
    if way == "pytorch_half_pixel" and 1 in (new or []):
        raise Refusal("a resize to one row or column takes the first pixel by pytorch_half_pixel, and torch the middle")
    return im.emit(targets[mode], x, new, way == "align_corners", scales)


def _new_size(im: Importer, n: OnnxNode, old: list[int]) -> tuple[list[int] | None, list[float] | None]:
    """The size that is asked for, or the factors."""
    sizes = n.get(3)
    if sizes is not None:
        wanted = im.sizes(sizes, "sizes")[-2:]
        return [int(str(size)) for size in wanted], None
    scales: Any = n.known(2, "scales").samples[0]
    factors = [float(each) for each in scales.tolist()]
    if len(factors) != 4 or factors[:2] != [1.0, 1.0]:
        raise Refusal(f"its factors {factors} are not of height and width alone")
    new = [math.floor(size * factor) for size, factor in zip(old, factors[2:], strict=True)]
    exact = all(size * factor == wanted for size, factor, wanted in zip(old, factors[2:], new, strict=True))
    return (new, None) if exact else (None, factors[2:])


REDUCTIONS: Mapping[str, Rule] = {
    "ReduceMean": _reduce(aten.mean.dim),
    "ReduceSum": _reduce(aten.sum.dim_IntList),
    "ReduceMax": _reduce(aten.amax.default),
    "ReduceMin": _reduce(aten.amin.default),
    "ReduceProd": _product,
    "ReduceL1": _norm(1),
    "ReduceL2": _norm(2),
    "ReduceSumSquare": _squares,
    "ArgMax": _argmax,
    "CumSum": _cumulative_sum,
    "TopK": _top,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "Resize": _resize,
}
