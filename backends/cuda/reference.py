"""What each kernel has to compute, in plain torch on any device: products of codes in FP64, where sums up to 2⁵³ are exact.

These are the specification. `round` is to the nearest integer, ties to even; `code(y, s) = round(clamp(y / s, -128, 127))` in
FP32, as `vitgraph.fake_quantize` (`vitgraph.ir.formats`); scales are rounded to FP32 first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitgraph.backends.cuda.operands import FP16, FP32
from vitgraph.ir.dialect import quantize_values


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
) -> Tensor:
    """a(g(FP32(Σₖ x[m, k] w[n, k]) · scale[n] + bias[n])) + residual[m, n], g GELU or nothing, each step rounded to FP32.

    a(y) is `adjusted_values`: Q/DQ, a factor and a summand for each column. `x` INT8 `[M, K]`, `w` INT8 `[N, K]`; `scale` (of x
    times of w), `bias`, `multiplier` and `offset` FP32 `[N]`, `residual` FP16 `[M, N]`; gives FP16 `[M, N]`, or INT8 codes of
    `out_scale`.
    """
    value = linear_values(
        x,
        w,
        scale,
        bias,
        gelu=gelu,
        round_scale=round_scale,
        multiplier=multiplier,
        offset=offset,
        residual=residual,
    )
    return stored(value, out_scale)


def linear_values(
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
) -> Tensor:
    """What `linear` stores, FP32."""
    value = activated_values((x.double() @ w.double().T).to(FP32) * scale, bias, gelu=gelu)
    value = adjusted_values(value, round_scale, multiplier, offset)
    return value if residual is None else value + residual.to(FP32)


def activate(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    gelu: bool = True,
    round_scale: float | None = None,
    multiplier: Tensor | None = None,
    offset: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """a(g(x[m, n] + bias[n])), g GELU or nothing, each step rounded to FP32; a as in `linear`.

    `x` FP16 `[M, N]`, `bias`, `multiplier` and `offset` FP32 `[N]`; gives FP16 `[M, N]`, or INT8 codes of `scale`.
    """
    value = activated_values(x.to(FP32), bias, gelu=gelu)
    return stored(adjusted_values(value, round_scale, multiplier, offset), scale)


def activated_values(value: Tensor, bias: Tensor | None = None, *, gelu: bool = True) -> Tensor:
    """What `activate` stores, FP32; GELU, x · Φ(x), is rounded to FP32 from FP64."""
    value = value if bias is None else value + bias
    return torch.nn.functional.gelu(value.double()).to(FP32) if gelu else value


def adjusted_values(
    value: Tensor,
    round_scale: float | None = None,
    multiplier: Tensor | None = None,
    offset: Tensor | None = None,
) -> Tensor:
    """FP32 values as codes of `round_scale` and back, times `multiplier[n]`, plus `offset[n]`; each where it is given."""
    if round_scale is not None:
        value = stored(value, round_scale).to(FP32) * _fp32(round_scale)
    value = value if multiplier is None else value * multiplier
    return value if offset is None else value + offset


def normalize(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    residual: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(t - mean(t)) / √(var(t) + eps) · weight + bias by row, and t = FP16(x + residual).

    `x` and `residual` FP16 `[M, N]`, `weight` and `bias` FP32 `[N]`; gives INT8 codes of `scale` or FP16 `[M, N]`, and t.
    """
    total = x if residual is None else (x.to(FP32) + residual.to(FP32)).to(FP16)
    return stored(normalized_values(total, weight, bias, eps), scale), total


def normalized_values(total: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """What `normalize` stores, rounded to FP32 from FP64."""
    deviation = total.double() - total.double().mean(-1, keepdim=True)
    variance = (deviation * deviation).mean(-1, keepdim=True)
    return (deviation / (variance + eps).sqrt() * weight + bias).to(FP32)


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


def probability_steps(q: Tensor, k: Tensor, *, score_factor: float, probability_scale: float) -> Tensor:
    """softmax(score_factor · q kᵀ) / probability_scale, FP64 `[B, H, T, S]`: what is rounded to the codes 0 … 127.

    `q` INT8 `[B, T, H, D]`, `k` INT8 `[B, S, H, D]`; both scales are rounded to FP32 first.
    """
    scores = torch.einsum("bthd,bshd->bhts", q.double(), k.double())
    return torch.softmax(scores * _fp32(score_factor).double(), -1) / _fp32(probability_scale).double()


def attention_result(product: Tensor, value_factor: float, out_scale: float | None = None) -> Tensor:
    """What `attention` gives for the product of probabilities' codes and v, whole numbers `[B, T, H, D]` in FP64."""
    return stored(product.to(FP32).flatten(2).flatten(0, 1) * _fp32(value_factor), out_scale)


def stored(value: Tensor, scale: float | None) -> Tensor:
    """FP32 values as INT8 codes of `scale`, or in FP16 where that is None."""
    return value.to(FP16) if scale is None else quantize_values(value, _fp32(scale).to(value.device))


def _fp32(number: float) -> Tensor:
    return torch.tensor(number, dtype=FP32)
