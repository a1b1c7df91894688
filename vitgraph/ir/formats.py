"""The number formats that values are rounded to: each value a code times a scale.

    int8      -128 … 127
    int4      -8 … 7; two codes to a byte in the ONNX file
    fp8       E4M3FN: sign, 4 bits of exponent, 3 of mantissa, up to ±448, no infinities

All are symmetric (no zero point), as TensorRT takes them, and all saturate: what is too large becomes the largest code.
(ONNX operators QuantizeLinear and DequantizeLinear, opset 21; FP8: Micikevicius et al., arXiv 2209.05433.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

FormatName = Literal["int8", "int4", "fp8"]


@dataclass(frozen=True)
class Format:
    """One number format; `low` and `high` are the least and the largest code."""

    name: str
    low: float
    high: float
    bits: int
    dtype: torch.dtype
    """What holds a code in a program; INT4 codes take a byte each there."""

    def nearest(self, steps: Tensor) -> Tensor:
        """Each value's nearest code, ties to even, clipped; as floating point of the type and shape of `steps`."""
        clipped = steps.clamp(self.low, self.high)
        if self.dtype.is_floating_point:
            return clipped.to(self.dtype).to(steps.dtype).add_(0.0)  # no -0: what a mask holds at zero is the code 0
        return clipped.round_()


FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format("int8", -128, 127, 8, torch.int8),
        Format("int4", -8, 7, 4, torch.int8),
        Format("fp8", -448, 448, 8, torch.float8_e4m3fn),
    )
}


def number_format(name: str) -> Format:
    """The format called `name`; `ValueError` where there is none."""
    if name not in FORMATS:
        raise ValueError(f"no number format {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[name]


def spread(scale: Tensor, axis: int | None, shape: Sequence[int]) -> Tensor:
    """A scale as it multiplies a value of `shape`.

    It is one number (`axis` None), a vector along `axis`, or of the value's rank with one number for each of equal
    groups along `axis`, which it is repeated over.
    """
    if axis is None:
        return scale
    axis %= len(shape)
    if scale.dim() > 1:
        return scale.repeat_interleave(shape[axis] // scale.shape[axis], axis)
    return scale.reshape([-1 if position == axis else 1 for position in range(len(shape))])


def pack_int4(codes: Tensor) -> Tensor:
    """INT4 codes (int8, any shape) two to a byte, the first in the low half: uint8, `[ceil(n / 2)]`, as ONNX stores them."""
    flat = codes.reshape(-1)
    if len(flat) % 2:
        flat = torch.cat([flat, flat.new_zeros(1)])
    pairs = flat.view(torch.uint8).reshape(-1, 2) & 0xF
    return pairs[:, 0] | pairs[:, 1] << 4


def unpack_int4(packed: Tensor, count: int) -> Tensor:
    """The `count` INT4 values that `pack_int4` packed: int8, `[count]`."""
    halves = torch.stack([packed & 0xF, packed >> 4], 1).reshape(-1)[:count].to(torch.int8)
    return torch.where(halves > 7, halves - 16, halves)
