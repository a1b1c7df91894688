"""Attention over INT8 q, k and v whose probabilities are quantized too, as `vitgraph.attention` with a probability scale.

Both products are exact in INT32. Probabilities are known only when all of a row's scores are, so keys are gone through twice:
once for each row's largest score and sum of exponentials, once for the codes and their product with v; where all keys
are one block, the scores are computed once. The softmax is FP32, in another order than the reference's FP64: the code of a
probability may differ by 1 where probability / scale is within one part in 2¹⁶ of halfway between two codes, and nowhere
else; what follows is bit-equal to the reference on the same codes.
"""

from __future__ import annotations

from math import log

from torch import Tensor

from vitgraph.backends.cuda.kernels.arithmetic import rounded, store_result
from vitgraph.backends.cuda.operands import INT8, MOST_DEPTH, MOST_KEYS, expect_scale, expect_view, output, sizes
from vitgraph.backends.cuda.triton_language import Value, constexpr, jit, launch, tl, triton

_QUERIES, _KEYS = 64, 64
_ONE_BLOCK = 256
"""Up to this many keys are one block."""


@jit
def scores_of(q: Value, k: Value, there: Value) -> Value:
    """INT32 scores `[QUERIES, KEYS]` of INT8 `q` `[QUERIES, DEPTH]` and `k` `[KEYS, DEPTH]`, far below all others where no key is."""
    return tl.where(there[None, :], tl.dot(q, tl.trans(k)), -(2**30))


@jit
def exponentials(scores: Value, largest: Value, there: Value, exponent: Value) -> Value:
    """2 ^ ((score - largest of its row) · exponent), 0 where no key is; the difference is exact, for scores are INT32."""
    below = (scores - largest[:, None]).to(tl.float32)
    return tl.exp2(tl.fma(below, exponent, tl.where(there, 0.0, float("-inf"))[None, :]))


@jit
def attention_kernel(
    q: Value,
    k: Value,
    v: Value,
    out: Value,
    queries: Value,
    keys: Value,
    heads: Value,
    depth: Value,
    q_batch: Value,
    q_token: Value,
    q_head: Value,
    k_batch: Value,
    k_token: Value,
    k_head: Value,
    v_batch: Value,
    v_token: Value,
    v_head: Value,
    exponent: Value,
    probability_scale: Value,
    value_factor: Value,
    out_scale: Value,
    ONE_BLOCK: constexpr,
    QUERIES: constexpr,
    KEYS: constexpr,
    DEPTH: constexpr,
) -> None:
    """QUERIES rows of one head. Strides are those of q, k and v in elements; arrays as in `attention`; `exponent` is its factor by log₂ e."""
    tiles = tl.cdiv(queries, QUERIES)
    batch, head = tl.program_id(0) // tiles // heads, tl.program_id(0) // tiles % heads
    query = tl.program_id(0) % tiles * QUERIES + tl.arange(0, QUERIES)
    key = tl.arange(0, KEYS)
    d = tl.arange(0, DEPTH)
    deep = (d < depth)[None, :]
    q_places = q + batch * q_batch + head * q_head + query[:, None] * q_token + d[None, :]
    k_places = k + batch * k_batch + head * k_head + key[:, None] * k_token + d[None, :]
    v_places = v + batch * v_batch + head * v_head + key[:, None] * v_token + d[None, :]
    q_tile = tl.load(q_places, mask=(query < queries)[:, None] & deep, other=0)
    if ONE_BLOCK:
        there = key < keys
        mask = there[:, None] & deep
        scores = scores_of(q_tile, tl.load(k_places, mask=mask, other=0), there)
        powers = exponentials(scores, tl.max(scores, axis=1), there, exponent)
        reciprocal = 1.0 / (tl.sum(powers, axis=1) * probability_scale)
        codes = rounded(tl.minimum(powers * reciprocal[:, None], 127.0))
        product = tl.dot(codes, tl.load(v_places, mask=mask, other=0))
    else:
        largest = tl.full((QUERIES,), -(2**30), dtype=tl.int32)
        total = tl.zeros((QUERIES,), dtype=tl.float32)
        for start in range(0, keys, KEYS):
            there = start + key < keys
            k_tile = tl.load(k_places + start * k_token, mask=there[:, None] & deep, other=0)
            scores = scores_of(q_tile, k_tile, there)
            larger = tl.maximum(largest, tl.max(scores, axis=1))
            total = total * tl.exp2((largest - larger).to(tl.float32) * exponent)
            total = total + tl.sum(exponentials(scores, larger, there, exponent), axis=1)
            largest = larger
        reciprocal = 1.0 / (total * probability_scale)
        product = tl.zeros((QUERIES, DEPTH), dtype=tl.int32)
        for start in range(0, keys, KEYS):
            there = start + key < keys
            mask = there[:, None] & deep
            scores = scores_of(q_tile, tl.load(k_places + start * k_token, mask=mask, other=0), there)
            powers = exponentials(scores, largest, there, exponent)
            codes = rounded(tl.minimum(powers * reciprocal[:, None], 127.0))
            product = tl.dot(codes, tl.load(v_places + start * v_token, mask=mask, other=0), product)
    places = ((batch * queries + query) * heads + head)[:, None] * depth + d[None, :]
    store_result(out + places, product.to(tl.float32) * value_factor, out_scale, (query < queries)[:, None] & deep)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    score_factor: float,
    probability_scale: float,
    value_scale: float,
    out_scale: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The attention of codes that `reference.attention` defines, of up to 1024 keys and heads up to 128 deep.

    `q` INT8 `[B, T, H, D]`, `k` and `v` INT8 `[B, S, H, D]`, views of any strides but 1 in the last dimension (`qkv[:, :, 0]` of
    `[B, T, 3, H, D]`); `score_factor` is s_q · s_k · the attention's scale. Gives FP16, or INT8 codes of `out_scale`,
    `[B · T, H · D]`. `out` is written where given; rows past B · T stay as they are. `ValueError` where a tensor does not fit.
    """
    batch, queries, heads, depth = sizes("q", q, 4)
    keys = sizes("k", k, 4)[1]
    if depth > MOST_DEPTH or not 0 < keys <= MOST_KEYS:
        raise ValueError(f"k: shape {list(k.shape)}; heads of at most {MOST_DEPTH} and 1 to {MOST_KEYS} keys are taken")
    expect_view("q", q, INT8, [batch, queries, heads, depth])
    expect_view("k", k, INT8, [batch, keys, heads, depth])
    expect_view("v", v, INT8, [batch, keys, heads, depth])
    value_factor = value_scale * probability_scale
    expect_scale("score_factor", score_factor)
    expect_scale("probability_scale", probability_scale)
    expect_scale("value_scale * probability_scale", value_factor)
    expect_scale("out_scale", out_scale)
    out = output(out, q, out_scale, [batch * queries, heads * depth])
    launch(
        attention_kernel,
        (-(-queries // _QUERIES) * batch * heads,),
        *(q, k, v, out, queries, keys, heads, depth),
        *(*q.stride()[:3], *k.stride()[:3], *v.stride()[:3]),
        *(score_factor / log(2), probability_scale, value_factor, out_scale),
        ONE_BLOCK=keys <= _ONE_BLOCK,
        QUERIES=_QUERIES,
        KEYS=max(32, triton.next_power_of_2(keys)) if keys <= _ONE_BLOCK else _KEYS,
        DEPTH=max(32, triton.next_power_of_2(depth)),
        num_warps=4,
    )
    return out
