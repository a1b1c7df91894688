"""Bias, GELU and quantization in one pass over memory: what follows a product whose own epilogue can do none of it.

FP32 in the order that `reference.activate` states: codes and FP16 values are bit-equal to it without GELU; with
GELU, which is within 5e-7 of its FP64 value, they may differ by one step where the value is as near as that to halfway.
"""

from __future__ import annotations

from torch import Tensor

from vitgraph.backends.cuda.kernels.arithmetic import adjusted, store_result
from vitgraph.backends.cuda.kernels.arithmetic import gelu as gelu_of
from vitgraph.backends.cuda.operands import FP16, FP32, expect, expect_scale, output, sizes
from vitgraph.backends.cuda.triton_language import Value, constexpr, jit, launch, tl

_ROWS, _COLUMNS = 16, 256


@jit
def activation_kernel(
    x: Value,
    bias: Value,
    round_scale: Value,
    multiplier: Value,
    offset: Value,
    out: Value,
    rows: Value,
    columns: Value,
    scale: Value,
    GELU: constexpr,
    ROWS: constexpr,
    COLUMNS: constexpr,
) -> None:
    """One tile `[ROWS, COLUMNS]`; arrays as in `activate`. Tiles of a row are neighbours, for memory is read by rows."""
    tiles = tl.cdiv(columns, COLUMNS)
    m = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(0) % tiles * COLUMNS + tl.arange(0, COLUMNS)
    places = m[:, None] * columns + n[None, :]
    inside = (m[:, None] < rows) & (n[None, :] < columns)
    value = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    if bias is not None:
        value = value + tl.load(bias + n, mask=n < columns, other=0.0)[None, :]
    if GELU:
        value = gelu_of(value)
    value = adjusted(value, round_scale, multiplier, offset, n, n < columns)
    store_result(out + places, value, scale, inside)


def activate(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    gelu: bool = True,
    round_scale: float | None = None,
    multiplier: Tensor | None = None,
    offset: Tensor | None = None,
    scale: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The activation that `reference.activate` defines.

    `x` FP16 `[M, N]`, `bias`, `multiplier` and `offset` FP32 `[N]`; gives INT8 codes of `scale`, or FP16, `[M, N]`. `out` is written where given; rows
    past M stay as they are. `ValueError` where a tensor does not fit.
    """
    rows, columns = sizes("x", x, 2)
    expect("x", x, FP16, [rows, columns])
    for name, vector in (("bias", bias), ("multiplier", multiplier), ("offset", offset)):
        expect(name, vector, FP32, [columns])
    expect_scale("round_scale", round_scale)
    expect_scale("scale", scale)
    out = output(out, x, scale, [rows, columns])
    launch(
        activation_kernel,
        (-(-rows // _ROWS) * -(-columns // _COLUMNS),),
        *(x, bias, round_scale, multiplier, offset, out, rows, columns, scale),
        GELU=gelu,
        ROWS=_ROWS,
        COLUMNS=_COLUMNS,
        num_warps=4,
    )
    return out
