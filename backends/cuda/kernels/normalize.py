"""Residual add, layer norm and quantization in one pass over memory.

Statistics are FP32 sums where the reference's are FP64: a value is within 4e-6 of the row's largest (and of the largest bias),
and its code or FP16 form differs by one step where it is as near as that to halfway. The sum with the residual is bit-equal.
"""

from __future__ import annotations

from torch import Tensor

from vitgraph.backends.cuda.kernels.arithmetic import store_result
from vitgraph.backends.cuda.operands import FP16, FP32, MOST_WIDTH, expect, expect_scale, output, sizes
from vitgraph.backends.cuda.triton_language import Value, constexpr, jit, launch, tl, triton

_ELEMENTS = 4096
"""How many numbers a program holds, in 4 warps: narrow rows come several to a program."""


@jit
def normalize_kernel(
    x: Value,
    residual: Value,
    weight: Value,
    bias: Value,
    total: Value,
    out: Value,
    rows: Value,
    width: Value,
    eps: Value,
    scale: Value,
    ROWS: constexpr,
    WIDTH: constexpr,
) -> None:
    """ROWS rows of width up to WIDTH, a power of two. Arrays as in `normalize`; `total` is written where there is a residual.

    The mean of the differences from the mean corrects it: where all of a row is far from zero, the rounding of the first
    mean is not small against the deviations.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    within = (column < width)[None, :]
    places = row[:, None] * width + column[None, :]
    inside = (row[:, None] < rows) & within
    value = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    if residual is not None:
        added = tl.load(residual + places, mask=inside, other=0.0).to(tl.float32)
        summed = (value + added).to(tl.float16)
        tl.store(total + places, summed, mask=inside)
        value = summed.to(tl.float32)
    mean = tl.sum(value, axis=1) / width
    deviation = tl.where(within, value - mean[:, None], 0.0)
    error = tl.sum(deviation, axis=1) / width
    deviation = tl.where(within, deviation - error[:, None], 0.0)
    variance = tl.sum(deviation * deviation, axis=1) / width
    normal = deviation * (1.0 / tl.sqrt_rn(variance + eps))[:, None]
    w = tl.load(weight + column, mask=column < width, other=0.0)
    b = tl.load(bias + column, mask=column < width, other=0.0)
    store_result(out + places, normal * w[None, :] + b[None, :], scale, inside)


def normalize(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    residual: Tensor | None = None,
    scale: float | None = None,
    out: Tensor | None = None,
    total: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The layer norm that `reference.normalize` defines, of rows up to 4096 wide: the result, and what was normalized.

    `x` and `residual` FP16 `[M, N]`, `weight` and `bias` FP32 `[N]`; gives INT8 codes of `scale` or FP16 `[M, N]`, and
    `x + residual` in FP16 (`x` itself without a residual). `out` and `total` are written where given, `total` may be `residual`
    or `x`; rows past M stay as they are. `ValueError` where a tensor does not fit.
    """
    rows, width = sizes("x", x, 2)
    if width > MOST_WIDTH:
        raise ValueError(f"x: rows of {width} are too wide to be held by one program; at most {MOST_WIDTH}")
    expect("x", x, FP16, [rows, width])
    expect("residual", residual, FP16, [rows, width])
    expect("weight", weight, FP32, [width])
    expect("bias", bias, FP32, [width])
    expect_scale("eps", eps)
    expect_scale("scale", scale)
    out = output(out, x, scale, [rows, width])
    total = x if residual is None else output(total, x, None, [rows, width])
    block = triton.next_power_of_2(width)
    at_once = max(1, _ELEMENTS // block) if rows > 1 else 1
    launch(
        normalize_kernel,
        (-(-rows // at_once),),
        *(x, residual, weight, bias, total, out, rows, width, eps, scale),
        ROWS=at_once,
        WIDTH=block,
        num_warps=4,
    )
    return out, total
