"""Faults planted in the kernels' own code: each has to be noticed by the comparison, or as a write to what is not the output."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.backends.cuda.cases import halves, linear_operands, qkv_codes
from tests.backends.cuda.comparison import attention_fault, not_equal, not_near
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
    "keys past the last are scored": ('tl.where((key < keys)[None, :], scores, float("-inf"))', "scores"),
    "depth is not masked": ("deep = (d < depth)[None, :]", "deep = (d < DEPTH)[None, :]"),
    "queries of the output are not masked": ("out_scale, (query < queries)[:, None] & deep)", "out_scale, deep)"),
    "strides of k are taken for v": ("v + batch * v_batch + head * v_head", "v + batch * v_batch + head * v_head + 1"),
    "heads and batches change places": ("tl.program_id(1) // heads, tl.program_id(1) % heads", "tl.program_id(1) % heads, tl.program_id(1) // heads"),
    "the largest score is not subtracted": ("tl.exp(scores - largest[:, None]) * reciprocal", "tl.exp(scores) * reciprocal"),
    "probabilities are cut off": ("+ 12582912.0) - 12582912.0)", "+ 12582912.0 - 0.5) - 12582912.0)"),
    "earlier sums are not rescaled": ("total * tl.exp(largest - larger)", "total"),
    "later blocks of keys take the first's values": ("v_places + start * v_token", "v_places"),
}  # fmt: skip
ONE_BLOCK_ALONE = ("keys past the last are scored", "the largest score is not subtracted", "heads and batches change places")


def run(interpreter: Interpreter, name: str, changed: tuple[str, str] | None, **given: Any) -> tuple[Tensor, ...] | None:
    """The results, or None where the kernel read or wrote memory that is not its own."""
    try:
        return interpreter.run(name, Mutation(*changed) if changed else None, **given)
    except OutOfBounds:
        return None


@pytest.mark.parametrize("fault", [None, *LINEAR])
def test_linear(interpreter: Interpreter, fault: str | None) -> None:
    """Three bands of tiles, none of them whole."""
    operands = linear_operands(75, 75, 45) | {"gelu": True, "out_scale": 0.02}
    found = run(interpreter, "linear", LINEAR.get(fault or ""), rows=75, columns=75, blocks=(16, 16, 32, 2), **operands)
    assert (found is None or not_equal(found[0], reference.linear(**operands)) is not None) is (fault is not None)


@pytest.mark.parametrize("fault", [None, *NORMALIZE])
def test_normalize(interpreter: Interpreter, fault: str | None) -> None:
    operands = {
        "x": halves("random", 37, 200) + 600,
        "weight": torch.randn(200),
        "bias": torch.randn(200),
        "eps": 1e-6,
        "residual": torch.randn(37, 200).half(),
        "scale": 0.02,
    }
    found = run(interpreter, "normalize", NORMALIZE.get(fault or ""), rows=37, columns=200, **operands)
    wanted = reference.normalize(**operands)
    right = found is not None and not (not_near(found[0], wanted[0]) or not_equal(found[1], wanted[1]))
    assert right is (fault is None)


@pytest.mark.parametrize("fault", [None, *ACTIVATION])
def test_activation(interpreter: Interpreter, fault: str | None) -> None:
    operands: dict[str, Any] = {"x": halves("random", 37, 300), "bias": torch.randn(300), "scale": 0.02}
    found = run(interpreter, "activate", ACTIVATION.get(fault or ""), rows=37, columns=300, **operands)
    assert (found is None or not_equal(found[0], reference.activate(**operands)) is not None) is (fault is not None)


@pytest.mark.parametrize("fault", [None, *ATTENTION])
def test_attention(interpreter: Interpreter, fault: str | None) -> None:
    """More keys than one block has."""
    _check_attention(interpreter, fault, 263)


@pytest.mark.parametrize("fault", [None, *ONE_BLOCK_ALONE])
def test_attention_in_one_block(interpreter: Interpreter, fault: str | None) -> None:
    _check_attention(interpreter, fault, 37)


def _check_attention(interpreter: Interpreter, fault: str | None, tokens: int) -> None:
    qkv = qkv_codes(2, tokens, 3, 20)
    scales = {"score_factor": 2e-4, "probability_scale": 4 / tokens / 127, "value_scale": 0.02, "out_scale": 1e-3}
    found = run(interpreter, "attention", ATTENTION.get(fault or ""), rows=2 * tokens, columns=60, qkv=qkv, **scales)
    assert (found is None or attention_fault(found[0], qkv, **scales) is not None) is (fault is not None)
