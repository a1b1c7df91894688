"""What each kernel has to compute, in plain torch on any device: products of codes in FP64, where sums up to 2⁵³ are exact.

These are the specification. `round` is to the nearest integer, ties to even; `code(y, s) = round(clamp(y / s, -128, 127))` in
FP32, as `vitgraph.fake_quantize` (`vitgraph.ir.formats`); scales are rounded to FP32 first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitgraph.backends.cuda.operands import FP16, FP32, INT8
from vitgraph.ir.dialect import quantize_values


def linear(
    x: Tensor,
    w: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    gelu: bool = False,
    residual: Tensor | None = None,
    out_scale: float | None = None,
) -> Tensor:
    """g(FP32(Σₖ x[m, k] w[n, k]) · scale[n] + bias[n]) + residual[m, n], g GELU or nothing, each step rounded to FP32.

    `x` INT8 `[M, K]`, `w` INT8 `[N, K]`, `scale` FP32 `[N]` (of x times of w), `bias` FP32 `[N]`, `residual` FP16 `[M, N]`; gives
    FP16 `[M, N]`, or INT8 codes of `out_scale`.
    """
    value = (x.double() @ w.double().T).to(FP32) * scale
    value = _activated(value, bias, gelu)
    return _result(value if residual is None else value + residual.to(FP32), out_scale)


def normalize(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    residual: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(t - mean(t)) / √(var(t) + eps) · weight + bias by row, in FP64, and t = FP16(x + residual).

    `x` and `residual` FP16 `[M, N]`, `weight` and `bias` FP32 `[N]`; gives INT8 codes of `scale` or FP16 `[M, N]`, and t.
    """
    total = x if residual is None else (x.to(FP32) + residual.to(FP32)).to(FP16)
    exact = total.double()
    deviation = exact - exact.mean(-1, keepdim=True)
    variance = (deviation * deviation).mean(-1, keepdim=True)
    value = deviation / (variance + eps).sqrt() * weight + bias
    return _result(value.to(FP32), scale), total


def activate(x: Tensor, bias: Tensor | None = None, *, gelu: bool = True, scale: float | None = None) -> Tensor:
    """g(x[m, n] + bias[n]), g GELU or nothing, each step rounded to FP32.

    `x` FP16 `[M, N]`, `bias` FP32 `[N]`; gives FP16 `[M, N]`, or INT8 codes of `scale`.
    """
    return _result(_activated(x.to(FP32), bias, gelu), scale)


def probability_steps(q: Tensor, k: Tensor, *, score_factor: float, probability_scale: float) -> Tensor:
    """softmax(FP32(q kᵀ) · score_factor) / probability_scale, FP64 `[B, H, T, S]`: what is rounded to the codes 0 … 127.

    `q` INT8 `[B, T, H, D]`, `k` INT8 `[B, S, H, D]`. The scores are rounded to FP32, the softmax is FP64.
    """
    scores = torch.einsum("bthd,bshd->bhts", q.double(), k.double()).to(FP32) * _fp32(score_factor)
    return torch.softmax(scores.double(), -1) / _fp32(probability_scale)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    score_factor: float,
    probability_scale: float,
    value_scale: float,
    out_scale: float | None = None,
) -> Tensor:
    """FP32(Σₛ p[t, s] v[s, d]) · FP32(value_scale · probability_scale), p the codes of the softmax (`probability_steps`).

    `q` INT8 `[B, T, H, D]`, `k` and `v` INT8 `[B, S, H, D]`; `score_factor` is s_q · s_k · the attention's scale. Gives FP16
    `[B · T, H · D]`, or INT8 codes of `out_scale`.
    """
    steps = probability_steps(q, k, score_factor=score_factor, probability_scale=probability_scale)
    product = torch.einsum("bhts,bshd->bthd", steps.clamp(0, 127).round(), v.double())
    return attention_result(product, value_scale * probability_scale, out_scale)


def attention_result(product: Tensor, value_factor: float, out_scale: float | None = None) -> Tensor:
    """What `attention` gives for the product of probabilities' codes and v, whole numbers `[B, T, H, D]` in FP64."""
    return _result(product.to(FP32).flatten(2).flatten(0, 1) * _fp32(value_factor), out_scale)


def _activated(value: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    """GELU of FP32 values and their bias: x / 2 · (1 + erf(x / √2)), erf to the nearest FP32 and all else FP32 operations."""
    value = value if bias is None else value + bias
    if not gelu:
        return value
    return value * 0.5 * (1.0 + torch.erf((value * _fp32(0.5**0.5)).double()).to(FP32))


def _result(value: Tensor, scale: float | None) -> Tensor:
    codes = None if scale is None else quantize_values(value, _fp32(scale).to(value.device))
    return value.to(FP16) if codes is None else codes.to(INT8)


def _fp32(number: float) -> Tensor:
    return torch.tensor(number, dtype=FP32)
