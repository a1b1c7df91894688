"""Faults planted in the kernels' own code: each has to be noticed by the comparison, or as a write to what is not the output."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.backends.cuda.cases import halves, linear_operands, qkv_codes
from tests.backends.cuda.comparison import attention_fault, gelu_tolerance, norm_tolerance, not_equal, not_rounded
from tests.backends.cuda.interpreter import Interpreter, Mutation, OutOfBounds
from vitgraph.backends.cuda import reference

LINEAR = {
    "rows of x are not masked": ("x_mask = m[:, None] < rows", "x_mask = m[:, None] < rows + ROWS"),
    "inner columns are not masked": ("if not WHOLE:", "if False:"),
    "rows of the output are not masked": ("inside = (m[:, None] < rows) & ", "inside = "),
    "columns of the output are not masked": ("inside = (m[:, None] < rows) & (n[None, :] < columns)", "inside = m[:, None] < rows"),
    "the last inner tile is dropped": ("range(0, inner, INNER)", "range(0, inner - INNER, INNER)"),
    "the last band of tiles is not lower": ("tl.minimum(tile_rows - band * GROUP, GROUP)", "GROUP"),
    "the scale is that of the row": ("tl.load(scale + n, mask=n < columns, other=0.0)[None, :]", "tl.load(scale + m, mask=m < columns, other=0.0)[:, None]"),
    "operands are swapped": ("tl.dot(x_tile, tl.trans(w_tile), total)", "tl.dot(w_tile, tl.trans(x_tile), total)"),
    "bias comes after GELU": ("    if GELU:\n        value = gelu(value)\n", "    if GELU:\n        value = gelu(value - 0.1) + 0.1\n"),
    "residual comes twice": ("mask=inside, other=0.0).to(tl.float32)", "mask=inside, other=0.0).to(tl.float32) * 2"),
    "the output is FP16's integer part": ("store_result(out + places, value, out_scale, inside)", "store_result(out + places, value - value % out_scale, out_scale, inside)"),
}  # fmt: skip
NORMALIZE = {
    "columns are not masked": ("inside = (row[:, None] < rows) & within", "inside = row[:, None] < rows"),
    "rows are not masked": ("inside = (row[:, None] < rows) & within", "inside = within"),
    "padding counts in the variance": ("deviation = tl.where(within, deviation - error[:, None], 0.0)", "deviation = tl.where(within, deviation, 1.0)"),
    "the mean is over the block": ("tl.sum(value, axis=1) / width\n    deviation = tl.where(within, value - mean[:, None], 0.0)\n    error = tl.sum(deviation, axis=1) / width", "tl.sum(value, axis=1) / WIDTH\n    deviation = tl.where(within, value - mean[:, None], 0.0)\n    error = tl.sum(deviation, axis=1) / WIDTH"),
    "the variance is over the block": ("tl.sum(deviation * deviation, axis=1) / width", "tl.sum(deviation * deviation, axis=1) / WIDTH"),
    "the residual is left out": ("summed = (value + added)", "summed = value"),
    "the sum is not rounded": ("value = summed.to(tl.float32)", "value = value + added"),
    "the bias is left out": (" + b[None, :]", ""),
}  # fmt: skip
ACTIVATION = {
    "rows are not masked": ("inside = (m[:, None] < rows) & ", "inside = "),
    "columns are not masked": ("inside = (m[:, None] < rows) & (n[None, :] < columns)", "inside = m[:, None] < rows"),
    "GELU is left out": ("value = gelu_of(value)", "value = value * 1.0"),
    "the bias is that of a neighbour": ("tl.load(bias + n, ", "tl.load(bias + n + 1, "),
    "tiles of a row are counted short": ("tl.cdiv(columns, COLUMNS)", "(columns // COLUMNS)"),
}  # fmt: skip
ATTENTION = {
    "keys past the last may be the largest": ("tl.where(there[None, :], tl.dot(q, tl.trans(k)), -(2**30))", "tl.dot(q, tl.trans(k)) + 2**19 * ~there[None, :]"),
    "depth is not masked": ("deep = (d < depth)[None, :]", "deep = (d < DEPTH)[None, :]"),
    "queries of the output are not masked": ("out_scale, (query < queries)[:, None] & deep)", "out_scale, deep)"),
    "strides of k are taken for v": ("v + batch * v_batch + head * v_head", "v + batch * v_batch + head * v_head + 1"),
    "heads and batches change places": ("tl.program_id(0) // tiles // heads, tl.program_id(0) // tiles % heads", "tl.program_id(0) // tiles % heads, tl.program_id(0) // tiles // heads"),
    "the exponent is of base e": ("tl.exp2(tl.fma(below", "tl.exp(tl.fma(below"),
    "earlier sums are not rescaled": ("tl.exp2((largest - larger).to(tl.float32) * exponent)", "1.0"),
    "later blocks of keys take the first's values": ("v_places + start * v_token", "v_places"),
    "probabilities are cut off": ("tl.minimum(powers * reciprocal[:, None], 127.0)", "tl.minimum(powers * reciprocal[:, None], 127.0) - 0.5"),
}  # fmt: skip
ONE_BLOCK = {
    "keys past the last are scored": ('tl.where(there, 0.0, float("-inf"))', "tl.where(there, 0.0, 0.0)"),
    "the largest score is not subtracted": ("(scores - largest[:, None])", "(scores + 0 * largest[:, None])"),
    "heads and batches change places": ATTENTION["heads and batches change places"],
}
FACTORS = {"keys past the last are scored": 1e-12, "the largest score is not subtracted": 0.1}
"""Scores that are all but equal, or far apart: with others these faults have no effect."""


def run(
    interpreter: Interpreter, name: str, changed: tuple[str, str] | None, **given: Any
) -> tuple[Tensor, ...] | None:
    """The results, or None where the kernel read or wrote memory that is not its own."""
    try:
        return interpreter.run(name, Mutation(*changed) if changed else None, **given)
    except OutOfBounds:
        return None


@pytest.mark.parametrize("fault", [None, *LINEAR])
def test_linear(interpreter: Interpreter, fault: str | None) -> None:
    """Three bands of tiles, none of them whole."""
    operands: dict[str, Any] = linear_operands(75, 75, 45) | {"gelu": True}
    changed = LINEAR.get(fault or "")
    found = run(interpreter, "linear", changed, rows=75, columns=75, blocks=(16, 16, 32, 2), **operands, out_scale=0.02)
    value = reference.linear_values(**operands)
    right = found is not None and not not_rounded(found[0], value, 0.02, gelu_tolerance(value))
    assert right is (fault is None)


@pytest.mark.parametrize("fault", [None, *NORMALIZE])
def test_normalize(interpreter: Interpreter, fault: str | None) -> None:
    """Values far from zero: their sum with the residual loses digits in FP16, and has to."""
    x, residual, weight, bias = halves("random", 37, 200) + 600, torch.randn(37, 200).half(), *torch.randn(2, 200)
    operands = {"x": x, "weight": weight, "bias": bias, "eps": 1e-6, "residual": residual, "scale": 0.02}
    found = run(interpreter, "normalize", NORMALIZE.get(fault or ""), rows=37, columns=200, **operands)
    total = x + residual
    value = reference.normalized_values(total, weight, bias, 1e-6)
    right = (
        found is not None
        and not not_rounded(found[0], value, 0.02, norm_tolerance(value, bias))
        and not not_equal(found[1], total)
    )
    assert right is (fault is None)


@pytest.mark.parametrize("fault", [None, *ACTIVATION])
def test_activation(interpreter: Interpreter, fault: str | None) -> None:
    x, bias = halves("random", 37, 300), torch.randn(300)
    changed = ACTIVATION.get(fault or "")
    found = run(interpreter, "activate", changed, rows=37, columns=300, x=x, bias=bias, gelu=True, scale=0.02)
    value = reference.activated_values(x.float(), bias)
    right = found is not None and not not_rounded(found[0], value, 0.02, gelu_tolerance(value))
    assert right is (fault is None)


@pytest.mark.parametrize("fault", [None, *ATTENTION])
def test_attention(interpreter: Interpreter, fault: str | None) -> None:
    """More keys than one block has."""
    _check_attention(interpreter, fault, 1, 260, 2)


@pytest.mark.parametrize("fault", [None, *ONE_BLOCK])
def test_attention_in_one_block(interpreter: Interpreter, fault: str | None) -> None:
    _check_attention(interpreter, fault, 2, 37, 3)


def _check_attention(interpreter: Interpreter, fault: str | None, batch: int, tokens: int, heads: int) -> None:
    qkv = qkv_codes(batch, tokens, heads, 20)
    rows = batch * tokens
    factor = FACTORS.get(fault or "", 2e-4)
    scales = {"score_factor": factor, "probability_scale": 4 / tokens / 127, "value_scale": 0.02, "out_scale": 1e-3}
    changed = (ATTENTION | ONE_BLOCK).get(fault or "")
    found = run(interpreter, "attention", changed, rows=rows, columns=heads * 20, qkv=qkv, **scales)
    right = found is not None and not attention_fault(found[0], qkv, **scales)
    assert right is (fault is None)
