"""What several kernels compute: codes, GELU, and the store of either form of a result.

By estimate, 60 instructions a number would take longer than the memory traffic of a fused pass, so
these are few (about 6 for a code, 13 for GELU) and branch nowhere.
"""

from __future__ import annotations

from vitgraph.backends.cuda.triton_language import Value, jit, tl


@jit
def rounded(steps: Value) -> Value:
    """FP32 values of at most 2²¹ to the nearest integer, ties to even, as INT8: the integer's low byte.

    Next to 1.5 · 2²³, which is 0x4B400000, FP32 numbers are 1 apart: the sum is rounded to an integer, and its bits end in it.
    Triton's interpreter has no `rint`; this is exact in both, and a conversion fewer.
    """
    return (steps + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8)


@jit
def nearest_code(value: Value, scale: Value) -> Value:
    """The INT8 code of FP32 values: value / scale to the nearest integer, ties to even, clipped to [-128, 127].

    The quotient is the one of `vitgraph.fake_quantize`, rounded as IEEE 754 says, without a division for each value: the
    reciprocal's product is off by a step or two in the last place, and one Newton step with the exact remainder (FMA) mends
    it (Markstein, IBM J. Res. Dev. 34, 1990). Clipping comes first, so nothing overflows for scales from 2⁻¹⁰⁰ to 2¹⁰⁰.
    """
    clipped = tl.minimum(tl.maximum(value, scale * -128.0), scale * 127.0)
    reciprocal = tl.div_rn(1.0, scale)
    near = clipped * reciprocal
    return rounded(tl.fma(tl.fma(-near, scale, clipped), reciprocal, near))


@jit
def gelu(value: Value) -> Value:
    """GELU of FP32 values in its exact form, x · Φ(x) (Hendrycks & Gimpel, arXiv 1606.08415), to within 5e-7 for any x.

    It is max(x, 0) - a · Φ(-a) with a = |x|, and log₂ Φ(-a) is near a parabola: the polynomial of degree 6 was fitted on [0, 6] to
    the least largest error of a · Φ(-a), 5e-8. In FP32 all of it is within 3e-7, x / 2 · (1 + erf(x / √2)) within 5e-7. Past 6,
    a · Φ(-a) is below 6e-9, and is held there.
    """
    size = tl.minimum(tl.abs(value), 6.0)
    exponent = tl.fma(size, 3.30931979988236e-05, -0.0007692230865359306)
    exponent = tl.fma(exponent, size, 0.00808072742074728)
    exponent = tl.fma(exponent, size, -0.053412120789289474)
    exponent = tl.fma(exponent, size, -0.4587709605693817)
    exponent = tl.fma(exponent, size, -1.1512017250061035)
    exponent = tl.fma(exponent, size, -0.999993085861206)
    return tl.fma(-size, tl.exp2(exponent), tl.maximum(value, 0.0))


@jit
def adjusted(value: Value, round_scale: Value, multiplier: Value, offset: Value, n: Value, there: Value) -> Value:
    """FP32 values as codes of `round_scale` and back, by a factor and a summand for each column `n`; each where it is not None."""
    if round_scale is not None:
        value = nearest_code(value, round_scale).to(tl.float32) * round_scale
    if multiplier is not None:
        value = value * tl.load(multiplier + n, mask=there, other=0.0)[None, :]
    if offset is not None:
        value = value + tl.load(offset + n, mask=there, other=0.0)[None, :]
    return value


@jit
def store_result(places: Value, value: Value, scale: Value, mask: Value) -> None:
    """Store FP32 values as codes of `scale`, or as FP16 where that is None."""
    if scale is None:
        tl.store(places, value.to(tl.float16), mask=mask)
    else:
        tl.store(places, nearest_code(value, scale), mask=mask)
