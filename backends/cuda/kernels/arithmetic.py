"""What several kernels compute: codes, GELU, and the store of either form of a result."""

from __future__ import annotations

from vitgraph.backends.cuda.triton_language import Value, jit, tl


@jit
def nearest_code(value: Value, scale: Value) -> Value:
    """The INT8 code of FP32 values: value / scale, clipped to [-128, 127], to the nearest integer, ties to even.

    The division is the IEEE one (`/` is an approximation in Triton): as `vitgraph.fake_quantize` divides. Around 1.5 · 2²³
    neighbours in FP32 are 1 apart, so adding that number rounds to an integer, ties to even, and subtracting it is exact.
    The compiler keeps both: it reassociates nothing, and without FP fusion no product gets contracted with the sum.
    """
    steps = tl.div_rn(value, scale)
    clipped = tl.minimum(tl.maximum(steps, -128.0), 127.0)
    return ((clipped + 12582912.0) - 12582912.0).to(tl.int8)


@jit
def gelu(value: Value) -> Value:
    """GELU of FP32 values in its exact form, x / 2 · (1 + erf(x / √2)) (Hendrycks & Gimpel, arXiv 1606.08415)."""
    return value * 0.5 * (1.0 + tl.erf(value * 0.7071067811865476))


@jit
def store_result(places: Value, value: Value, scale: Value, mask: Value) -> None:
    """Store FP32 values as codes of `scale`, or as FP16 where that is None."""
    if scale is None:
        tl.store(places, value.to(tl.float16), mask=mask)
    else:
        tl.store(places, nearest_code(value, scale), mask=mask)
