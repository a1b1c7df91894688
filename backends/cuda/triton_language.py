"""Triton as the kernels see it: typed `Any`, for Triton has no type annotations that a checker could use.

A kernel is decorated with `jit`, annotates each argument `Value` or, where it is known at compile time, `constexpr`, and
is started by `launch`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from torch import Tensor

triton: Any = import_module("triton")
tl: Any = import_module("triton.language")
jit = cast("Callable[[Callable[..., Any]], Any]", triton.jit)

if TYPE_CHECKING:
    constexpr: TypeAlias = Any  # noqa: PYI042  (Triton looks for this very word)
    Value: TypeAlias = Any
else:  # Triton looks annotations up, and takes none but its own
    constexpr = tl.constexpr
    Value = tl.tensor

WITHOUT_FUSION = {"enable_fp_fusion": False}
"""Options of every compilation: no product and sum contracted to one FMA, whose single rounding the reference does not make."""

_MOST = 2**31
"""Offsets are 32-bit integers."""


def launch(kernel: Any, programs: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Start a kernel on the current device, `programs` of it.

    `ValueError` for a tensor that reaches over 2³¹ elements or more, and for one of the CPU unless kernels are interpreted.
    """
    interpreted = not isinstance(kernel, triton.JITFunction)
    for tensor in arguments:
        if not isinstance(tensor, Tensor):
            continue
        reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        if reach > _MOST:
            raise ValueError(
                f"a tensor of {reach:,} elements is too large: kernels count to {_MOST:,}; split the batch"
            )
        if not (interpreted or tensor.is_cuda):
            raise ValueError(
                f"a kernel takes tensors of a CUDA device, not {tensor.device}; TRITON_INTERPRET=1 emulates one"
            )
    if all(programs):
        kernel[programs](*arguments, **options, **WITHOUT_FUSION)
