"""The INT8 linear against its reference: bit-equal without GELU, else the rounding of a value as near as GELU promises."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.cuda.cases import KINDS, SCALES, codes, linear_operands
from tests.backends.cuda.comparison import gelu_tolerance, not_equal, not_rounded
from tests.backends.cuda.interpreter import Interpreter
from vitgraph.backends.cuda import reference

BLOCKS = ((16, 16, 32, 1), (16, 32, 64, 2), (32, 16, 32, 8))
"""Rows, columns and inner length of a tile, and tile rows that are computed together."""


def fault(interpreter: Interpreter, blocks: tuple[int, ...] | None = None, **operands: Any) -> str | None:
    out_scale = operands.pop("out_scale", None)
    value = reference.linear_values(**operands)
    rows, columns = value.shape
    (found,) = interpreter.run("linear", rows=rows, columns=columns, blocks=blocks, **operands, out_scale=out_scale)
    if operands.get("gelu"):
        return not_rounded(found, value, out_scale, gelu_tolerance(value))
    return not_equal(found, reference.linear(**operands, out_scale=out_scale))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 90)),
    kind=st.sampled_from(KINDS),
    blocks=st.sampled_from(BLOCKS),
    bias=st.booleans(),
    gelu=st.booleans(),
    residual=st.booleans(),
    out_scale=st.none() | st.sampled_from(SCALES),
    seed=st.integers(0, 2**16),
)
def test_equals_reference(
    interpreter: Interpreter,
    sizes: tuple[int, int, int],
    kind: str,
    blocks: tuple[int, ...],
    bias: bool,
    gelu: bool,
    residual: bool,
    out_scale: float | None,
    seed: int,
) -> None:
    torch.default_generator.manual_seed(seed)
    operands = linear_operands(*sizes, kind, bias=bias, residual=residual)
    assert fault(interpreter, blocks, gelu=gelu, out_scale=out_scale, **operands) is None


@pytest.mark.parametrize("sizes", [(1, 1, 1), (17, 64, 256), (65, 97, 128), (197, 3, 31)])
def test_equals_reference_with_the_blocks_of_the_table(interpreter: Interpreter, sizes: tuple[int, int, int]) -> None:
    assert fault(interpreter, gelu=True, out_scale=0.02, **linear_operands(*sizes)) is None


@pytest.mark.parametrize("given", [("round_scale",), ("multiplier", "offset"), ("round_scale", "multiplier", "offset")])
@pytest.mark.parametrize("out_scale", [None, 0.02])
def test_adjustments_are_bit_equal(interpreter: Interpreter, given: tuple[str, ...], out_scale: float | None) -> None:
    more: dict[str, Any] = {"round_scale": 0.05, "multiplier": torch.rand(41) + 0.5, "offset": torch.randn(41)}
    operands = linear_operands(19, 41, 33) | {name: more[name] for name in given}
    assert fault(interpreter, out_scale=out_scale, **operands) is None
    wrong = operands | {given[-1]: operands[given[-1]] * 1.5}
    (found,) = interpreter.run("linear", rows=19, columns=41, **wrong, out_scale=out_scale)
    assert not_equal(found, reference.linear(**operands, out_scale=out_scale))


@pytest.mark.parametrize("extreme", ["least", "largest"])
def test_sums_are_exact(interpreter: Interpreter, extreme: str) -> None:
    """Sums of 4096 products of the outermost codes, more than FP32 can count to."""
    operands: dict[str, Any] = {
        "x": codes(extreme, 3, 4096),
        "w": codes(extreme, 5, 4096),
        "scale": torch.ones(5),
        "bias": None,
    }
    operands["x"][:, 0] = 1
    assert fault(interpreter, out_scale=2e6, **operands) is None
    assert fault(interpreter, **operands) is None


def test_ties_go_to_even_and_outer_values_are_clipped(interpreter: Interpreter) -> None:
    x = torch.tensor([[-128], [-127], [-5], [-3], [-1], [0], [1], [3], [5], [126], [127]], dtype=torch.int8)
    (found,) = interpreter.run(
        "linear",
        rows=11,
        columns=2,
        x=x,
        w=torch.tensor([[1], [4]], dtype=torch.int8),
        scale=torch.ones(2),
        out_scale=2.0,
    )
    wanted = [[-64, -64, -2, -2, 0, 0, 0, 2, 2, 63, 64], [-128, -128, -10, -6, -2, 0, 2, 6, 10, 127, 127]]
    assert not_equal(found, torch.tensor(wanted, dtype=torch.int8).T) is None


@pytest.mark.parametrize("planted", ["scale", "bias", "operands", "residual", "last inner column", "last row"])
def test_notices(interpreter: Interpreter, planted: str) -> None:
    """The comparison objects to an operand that is wrong."""
    right = linear_operands(18, 18, 33)
    wrong = {key: value.clone() for key, value in right.items()}
    if planted == "operands":
        wrong |= {"x": right["w"], "w": right["x"]}
    elif planted == "last inner column":
        wrong["x"][:, -1] = 0
    elif planted == "last row":
        wrong["x"][-1] = 0
    else:
        wrong[planted] = wrong[planted].roll(1, 0)
    wanted = reference.linear(**right, out_scale=0.02)
    (found,) = interpreter.run("linear", rows=18, columns=18, **wrong, out_scale=0.02)
    assert not_equal(found, wanted)
    assert fault(interpreter, **right, out_scale=0.02) is None
