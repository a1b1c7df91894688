"""What the kernels and their references demand of tensors; `ValueError` names the one that is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FP32, FP16, INT8 = torch.float32, torch.float16, torch.int8
MOST_WIDTH = 4096
"""Of a row that is normalized: one program holds it."""
MOST_DEPTH, MOST_KEYS = 128, 1024
"""Of an attention's heads, and of what a query attends to."""


def sizes(name: str, tensor: Tensor, dimensions: int) -> list[int]:
    """The shape of a tensor that has to have so many dimensions."""
    if tensor.dim() != dimensions:
        raise ValueError(f"{name}: shape {list(tensor.shape)} has {tensor.dim()} dimensions, not {dimensions}")
    return list(tensor.shape)


def expect(name: str, tensor: Tensor | None, dtype: torch.dtype, shape: Sequence[int]) -> None:
    """That a tensor, where there is one, has this type and shape and is contiguous."""
    if tensor is None:
        return
    expect_view(name, tensor, dtype, shape)
    if not tensor.is_contiguous():
        raise ValueError(f"{name}: strides {list(tensor.stride())} are not those of a contiguous tensor")


def expect_view(name: str, tensor: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> None:
    """That a tensor has this type and shape, and its last dimension lies without gaps."""
    if tensor.dtype != dtype:
        raise ValueError(f"{name}: {tensor.dtype}, not {dtype}")
    if list(tensor.shape) != list(shape):
        raise ValueError(f"{name}: shape {list(tensor.shape)}, not {list(shape)}")
    if tensor.dim() and tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        raise ValueError(f"{name}: stride {tensor.stride(-1)} of the last dimension, not 1")


def expect_scale(name: str, scale: float | None) -> None:
    """That a scale, where there is one, is within 2⁻¹⁰⁰ and 2¹⁰⁰: what the kernels compute with it stays in FP32's range."""
    if scale is not None and not 2.0**-100 <= scale <= 2.0**100:
        raise ValueError(f"{name}: {scale} is no scale; one is a positive number from 2**-100 to 2**100")


def output(out: Tensor | None, like: Tensor, scale: float | None, shape: Sequence[int]) -> Tensor:
    """What a kernel writes: `out`, or a new tensor on the device of `like`; INT8 where there is a scale, else FP16.

    `out` may have more rows than are written (its first dimension): the next product may want a multiple of 32.
    """
    dtype = FP16 if scale is None else INT8
    if out is None:
        return like.new_empty(list(shape), dtype=dtype)
    rows = max(shape[0], out.shape[0] if out.dim() else 0)
    expect("out", out, dtype, [rows, *shape[1:]])
    return out
