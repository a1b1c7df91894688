"""A dense INT8 linear whose epilogue dequantizes, adds the bias, activates, adds the residual and quantizes again.

INT8 × INT8 products are summed in INT32, exactly; the rest is FP32 in the order that `reference.linear` states. Codes and
FP16 values are bit-equal to it without GELU; with
GELU, which is within 5e-7 of its FP64 value, they may differ by one step where the value is as near as that to halfway.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vitgraph.backends.cuda.kernels.arithmetic import adjusted, gelu, store_result
from vitgraph.backends.cuda.operands import FP16, FP32, INT8, expect, expect_scale, output, sizes
from vitgraph.backends.cuda.triton_language import Value, constexpr, jit, launch, tl


@dataclass(frozen=True)
class Blocks:
    """How a product is cut: rows, columns and inner length of a tile, tile rows that are computed together, and threads."""

    rows: int
    columns: int
    inner: int
    group: int = 8
    warps: int = 4
    stages: int = 3

    @property
    def shared_memory(self) -> int:
        """Bytes that the tiles of all stages take."""
        return (self.rows + self.columns) * self.inner * self.stages


WIDE = Blocks(128, 256, 128, warps=16)
SQUARE = Blocks(128, 128, 128, warps=8)
NARROW = Blocks(64, 64, 128, stages=4)
FEW_ROWS = Blocks(16, 64, 256)
ODD = Blocks(64, 64, 32)
"""For rows that are no multiple of 16 bytes: they are loaded byte by byte."""
LEAST_SHARED_MEMORY = 99 * 1024
"""Of a block on sm_86 and sm_89; sm_80 has 163 KiB and sm_90 227 KiB."""


def blocks_for(rows: int, columns: int, inner: int, shared_memory: int = LEAST_SHARED_MEMORY) -> Blocks:
    """Blocks for a product `[rows, inner] × [inner, columns]`, not measured: the largest tile that leaves enough tiles.

    `shared_memory` is what a thread block of the device may take, in bytes.
    """
    if inner % 16:
        return ODD
    if rows <= FEW_ROWS.rows:
        return FEW_ROWS
    for blocks, least in ((WIDE, 264), (SQUARE, 108)):  # two tiles each for 132 processors, one each for 108
        tiles = -(-rows // blocks.rows) * -(-columns // blocks.columns)
        if tiles >= least and inner >= blocks.inner and blocks.shared_memory <= shared_memory:
            return blocks
    return NARROW


@jit
def tile_of(program: Value, tile_rows: Value, tile_columns: Value, GROUP: constexpr) -> Value:
    """The tile row and column of a program: down a band of GROUP tile rows, then the next column, then the next band.

    Programs that run at the same time then share columns of the weight and few rows, which stay in the L2 cache.
    """
    band = program // (GROUP * tile_columns)
    within = program % (GROUP * tile_columns)
    height = tl.minimum(tile_rows - band * GROUP, GROUP)  # the last band may be lower
    return band * GROUP + within % height, within // height


@jit
def linear_kernel(
    x: Value,
    w: Value,
    scale: Value,
    bias: Value,
    round_scale: Value,
    multiplier: Value,
    offset: Value,
    residual: Value,
    out: Value,
    rows: Value,
    columns: Value,
    inner: Value,
    out_scale: Value,
    GELU: constexpr,
    WHOLE: constexpr,
    ROWS: constexpr,
    COLUMNS: constexpr,
    INNER: constexpr,
    GROUP: constexpr,
) -> None:
    """One tile `[ROWS, COLUMNS]` of the output; WHOLE says that `inner` is a multiple of INNER. Arrays as in `linear`."""
    tile_row, tile_column = tile_of(tl.program_id(0), tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS), GROUP)
    m = tile_row * ROWS + tl.arange(0, ROWS)
    n = tile_column * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, INNER)
    x_places = x + m[:, None] * inner + k[None, :]
    w_places = w + n[:, None] * inner + k[None, :]
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.int32)
    for start in range(0, inner, INNER):
        x_mask = m[:, None] < rows
        w_mask = n[:, None] < columns
        if not WHOLE:
            x_mask = x_mask & (k[None, :] < inner - start)
            w_mask = w_mask & (k[None, :] < inner - start)
        x_tile = tl.load(x_places + start, mask=x_mask, other=0)
        w_tile = tl.load(w_places + start, mask=w_mask, other=0)
        total = tl.dot(x_tile, tl.trans(w_tile), total)
    value = total.to(tl.float32) * tl.load(scale + n, mask=n < columns, other=0.0)[None, :]
    if bias is not None:
        value = value + tl.load(bias + n, mask=n < columns, other=0.0)[None, :]
    if GELU:
        value = gelu(value)
    value = adjusted(value, round_scale, multiplier, offset, n, n < columns)
    places = m[:, None] * columns + n[None, :]
    inside = (m[:, None] < rows) & (n[None, :] < columns)
    if residual is not None:
        value = value + tl.load(residual + places, mask=inside, other=0.0).to(tl.float32)
    store_result(out + places, value, out_scale, inside)


def linear(
    x: Tensor,
    w: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    gelu: bool = False,
    round_scale: float | None = None,
    multiplier: Tensor | None = None,
    offset: Tensor | None = None,
    residual: Tensor | None = None,
    out_scale: float | None = None,
    out: Tensor | None = None,
    blocks: Blocks | None = None,
) -> Tensor:
    """The linear of codes that `reference.linear` defines, of any sizes.

    `x` INT8 `[M, K]`, `w` INT8 `[N, K]`, `scale`, `bias`, `multiplier` and `offset` FP32 `[N]`, `residual` FP16 `[M, N]`; gives FP16 `[M, N]`, or INT8
    codes of `out_scale`. `out` is written where given; rows past M stay as they are. `ValueError` where a tensor does not fit.
    """
    (rows, inner), (columns, _) = sizes("x", x, 2), sizes("w", w, 2)
    expect("x", x, INT8, [rows, inner])
    expect("w", w, INT8, [columns, inner])
    expect("scale", scale, FP32, [columns])
    for name, vector in (("bias", bias), ("multiplier", multiplier), ("offset", offset)):
        expect(name, vector, FP32, [columns])
    expect("residual", residual, FP16, [rows, columns])
    expect_scale("round_scale", round_scale)
    expect_scale("out_scale", out_scale)
    out = output(out, x, out_scale, [rows, columns])
    cut = blocks or blocks_for(rows, columns, inner)
    launch(
        linear_kernel,
        (-(-rows // cut.rows) * -(-columns // cut.columns),),
        *(x, w, scale, bias, round_scale, multiplier, offset, residual, out, rows, columns, inner, out_scale),
        GELU=gelu,
        WHOLE=inner % cut.inner == 0,
        ROWS=cut.rows,
        COLUMNS=cut.columns,
        INNER=cut.inner,
        GROUP=cut.group,
        num_warps=cut.warps,
        num_stages=cut.stages,
    )
    return out
