"""Random and hostile operands of the kernels; every one is a function of sizes, a kind and a seed."""

from typing import Any

import torch
from torch import Tensor

KINDS = ("random", "zeros", "least", "largest", "mixed", "one")
SCALES = (1e-30, 1e-4, 0.02, 0.3, 1.0, 1e30)


def codes(kind: str, *shape: int) -> Tensor:
    """INT8 codes: random ones, all of one value, only the outermost, or a single one among zeros."""
    if kind == "random":
        return torch.randint(-128, 128, shape, dtype=torch.int8)
    if kind == "mixed":
        return torch.where(torch.rand(shape) < 0.5, -128, 127).to(torch.int8)
    if kind == "one":
        return torch.zeros(shape, dtype=torch.int8).index_put_(
            tuple(torch.tensor([size // 2]) for size in shape), torch.tensor([-128], dtype=torch.int8)
        )
    return torch.full(shape, {"zeros": 0, "least": -128, "largest": 127}[kind], dtype=torch.int8)


def halves(kind: str, *shape: int) -> Tensor:
    """FP16 values: random ones, all of one value, only the largest there are, or a single large one among zeros."""
    if kind == "random":
        return torch.randn(shape).mul(4).half()
    return {"zeros": 0.0, "least": -1000.0, "largest": 60000.0, "mixed": 300.0, "one": 16.0}[kind] * (
        codes(kind, *shape).half() / 128
    )


def linear_operands(
    m: int, n: int, k: int, kind: str = "random", *, bias: bool = True, residual: bool = True
) -> dict[str, Any]:
    """Operands of `linear`: codes of this kind by random weights, so that results are about 1."""
    return {
        "x": codes(kind, m, k),
        "w": codes("random", n, k),
        "scale": (torch.rand(n) + 0.1) / (5000 * k**0.5),
        "bias": torch.randn(n) if bias else None,
        "residual": torch.randn(m, n).half() if residual else None,
    }


def qkv_codes(batch: int, tokens: int, heads: int, depth: int, kind: str = "random") -> Tensor:
    """q, k and v of one tensor: q and k of this kind, v random."""
    qkv = codes("random", batch, tokens, 3, heads, depth)
    qkv[:, :, :2] = codes(kind, batch, tokens, 2, heads, depth)
    return qkv
