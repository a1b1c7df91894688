"""Bias, GELU and quantization in one kernel, against its reference: bit-equal without GELU, else the rounding of a value as near as promised."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.backends.cuda.cases import KINDS, SCALES, halves
from tests.backends.cuda.comparison import gelu_tolerance, not_equal, not_rounded
from tests.backends.cuda.interpreter import Interpreter
from vitgraph.backends.cuda import reference


def fault(interpreter: Interpreter, x: Tensor, bias: Tensor | None, *, gelu: bool, scale: float | None) -> str | None:
    rows, columns = x.shape
    (found,) = interpreter.run("activate", rows=rows, columns=columns, x=x, bias=bias, gelu=gelu, scale=scale)
    if not gelu:
        return not_equal(found, reference.activate(x, bias, gelu=False, scale=scale))
    value = reference.activated_values(x.float(), bias)
    return not_rounded(found, value, scale, gelu_tolerance(value))


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 270),
    kind=st.sampled_from(KINDS),
    bias=st.booleans(),
    gelu=st.booleans(),
    scale=st.none() | st.sampled_from(SCALES),
    seed=st.integers(0, 2**16),
)
def test_equals_reference(
    interpreter: Interpreter,
    rows: int,
    columns: int,
    kind: str,
    bias: bool,
    gelu: bool,
    scale: float | None,
    seed: int,
) -> None:
    torch.default_generator.manual_seed(seed)
    x = halves(kind, rows, columns)
    assert fault(interpreter, x=x, bias=torch.randn(columns) if bias else None, gelu=gelu, scale=scale) is None


@pytest.mark.parametrize("scale", [None, 0.05])
def test_adjustments(interpreter: Interpreter, scale: float | None) -> None:
    """Bit-equal without GELU; with it a factor enlarges what GELU is off by."""
    x, factor, summand = halves("random", 18, 257), torch.rand(257) + 0.5, torch.randn(257)
    operands: dict[str, Any] = {"x": x, "bias": torch.randn(257), "multiplier": factor, "offset": summand}
    (found,) = interpreter.run("activate", rows=18, columns=257, **operands, gelu=False, round_scale=0.1, scale=scale)
    wanted = reference.activate(**operands, gelu=False, round_scale=0.1, scale=scale)
    assert not_equal(found, wanted) is None
    assert not_equal(found, reference.activate(**operands, gelu=False, scale=scale))
    (found,) = interpreter.run("activate", rows=18, columns=257, **operands, gelu=True, scale=scale)
    activated = reference.activated_values(x.float(), operands["bias"])
    tolerance = gelu_tolerance(activated) * factor + summand.abs().double() * 2.0**-22
    assert not_rounded(found, reference.adjusted_values(activated, None, factor, summand), scale, tolerance) is None


def test_ties_go_to_even(interpreter: Interpreter) -> None:
    steps = torch.arange(-280, 280).half()[None, :] / 2
    (found,) = interpreter.run("activate", rows=1, columns=560, x=steps * 0.25, gelu=False, scale=0.25)
    assert not_equal(found, steps.clamp(-128, 127).round().to(torch.int8)) is None


@settings(max_examples=30, deadline=None)
@given(st.floats(2.0**-100, 2.0**100, width=32) | st.floats(2.0**-10, 1, width=32))
def test_quotients_are_those_of_a_division(interpreter: Interpreter, scale: float) -> None:
    """For every FP32 number within four steps of halfway between two codes."""
    near = [(torch.arange(-130, 130).double().add(0.5) * scale).float()]
    for direction in (-torch.inf, torch.inf):
        step = near[0]
        for _ in range(4):
            step = step.nextafter(torch.tensor(direction))
            near.append(step)
    values = torch.cat(near)
    assert fault(interpreter, torch.zeros(1, len(values)).half(), values, gelu=False, scale=scale) is None


def test_gelu_is_as_near_as_promised(interpreter: Interpreter) -> None:
    """Codes of a small scale say GELU to within half of it; outside of their range, FP16 values do."""
    x = torch.cat([torch.linspace(-8, 8, 40_001), torch.tensor([-60000.0, 60000.0, torch.inf])])
    (found,) = interpreter.run("activate", rows=1, columns=len(x), x=torch.zeros(1, len(x)).half(), bias=x, gelu=True)
    wanted = reference.activated_values(x)[None]
    assert not_rounded(found, wanted, None, gelu_tolerance(wanted)) is None
    tail = torch.linspace(-8, -3.5, 20_001)
    operands: dict[str, Any] = {"x": torch.zeros(1, len(tail)).half(), "bias": tail, "gelu": True, "scale": 2e-5}
    (found,) = interpreter.run("activate", rows=1, columns=len(tail), **operands)
    wanted = reference.activated_values(tail)[None]
    assert not_rounded(found, wanted, 2e-5, 3e-7) is None
    assert not_rounded(found, wanted + 1e-6, 2e-5, 3e-7)


@pytest.mark.parametrize("planted", ["bias", "scale", "last row", "last column"])
def test_notices(interpreter: Interpreter, planted: str) -> None:
    """The comparison objects to an operand that is wrong."""
    right: dict[str, Any] = {"x": halves("random", 17, 257), "bias": torch.randn(257), "gelu": True, "scale": 0.05}
    wrong = right | {"x": right["x"].clone()}
    if planted == "bias":
        wrong["bias"] = right["bias"].roll(1)
    elif planted == "scale":
        wrong["scale"] = 0.051
    elif planted == "last row":
        wrong["x"][-1] = 0
    else:
        wrong["x"][:, -1] = 0
    (found,) = interpreter.run("activate", rows=17, columns=257, **wrong)
    wanted = reference.activated_values(right["x"].float(), right["bias"])
    assert not_rounded(found, wanted, 0.05, gelu_tolerance(wanted))
    assert fault(interpreter, **right) is None
