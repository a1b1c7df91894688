"""ONNX forms of resizing images `[N, C, H, W]`."""

from __future__ import annotations

import math
from typing import Any

import numpy
import onnx_ir as ir
import torch

from vitgraph.backends.onnx.graph_builder import Call, Lowering, NoLowering, Result, Rule, Table
from vitgraph.backends.onnx.image_forms import image_size
from vitgraph.ir.dialect import aten


def _resize(mode: str, rounding: str | None = None) -> Rule:
    """`rounding` is where a nearest pixel is counted from: the corner of a pixel (`floor`), or its middle."""

    def lower(g: Lowering, call: Call) -> Result:
        nearest = mode == "nearest"
        if nearest and not _is_exact(call):
            return _nearest_pixels(g, call)
        corners = not nearest and bool(call["align_corners"])
        transform = "asymmetric" if rounding == "floor" else "align_corners" if corners else "half_pixel"
        scales = [1.0, 1.0, *_scales(call, corners)]
        name = f"scales/{scales}"
        return g.emit(
            "Resize",
            g.value(call["input"]),
            None,
            g.small(name, torch.tensor(scales, dtype=torch.float32)),
            mode=mode,
            coordinate_transformation_mode=transform,
            nearest_mode=rounding,
            cubic_coeff_a=-0.75 if mode == "cubic" else None,
        )

    return lower


def _is_exact(call: Call) -> bool:
    """Are the factors of a resize float32 numbers? Where one is rounded, runtimes differ in which pixel is the nearest."""
    return all(float(numpy.float32(factor)) == factor for factor in _factors(call, corners=False))


def _nearest_pixels(g: Lowering, call: Call) -> ir.Value:
    """The rows and columns that torch itself takes, by their numbers."""
    x, (height, width) = g.value(call["input"]), image_size(call["input"])
    numbers = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
    resize: Any = call.node.target
    taken = resize(numbers, call["output_size"], call["scale_factors"])[0, 0].long()
    for axis, at in ((2, taken[:, 0] // width), (3, taken[0] % width)):
        x = g.emit("Gather", x, g.ints(at.tolist()), axis=axis)
    return x


def _factors(call: Call, corners: bool) -> list[float]:
    """Height and width factors: torch's where it was given them, else those of the sizes."""
    if call["scale_factors"] and not corners:
        return [float(factor) for factor in call["scale_factors"]]
    return [out / size for out, size in zip(image_size(call.node), image_size(call["input"]), strict=True)]


def _scales(call: Call, corners: bool) -> list[float]:
    """The factors such that ONNX gets torch's size."""
    triples = zip(_factors(call, corners), image_size(call["input"]), image_size(call.node), strict=True)
    return [_float32_reaching(*triple) for triple in triples]


def _float32_reaching(factor: float, size: int, out: int) -> float:
    """The float32 nearest to `factor` for which floor(size * factor) is `out`, in float32 and in more.

    ONNX Runtime multiplies in float32 where it resizes, and in float64 where it infers shapes and plans by them.
    """
    single = numpy.float32(factor)
    for candidate in (single, numpy.nextafter(single, numpy.float32("inf")), numpy.nextafter(single, numpy.float32(0))):
        products = numpy.float32(size) * candidate, size * float(candidate)
        if all(math.floor(product) == out for product in products):
            return float(candidate)
    raise NoLowering(f"no float32 factor takes {size} pixels to {out}")


RESIZE: Table = {
    aten.upsample_bilinear2d.vec: _resize("linear"),
    aten.upsample_bicubic2d.vec: _resize("cubic"),
    aten.upsample_nearest2d.vec: _resize("nearest", "floor"),
    aten._upsample_nearest_exact2d.vec: _resize("nearest", "round_prefer_ceil"),
}
