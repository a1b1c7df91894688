"""Residual, layer norm and quantization in one kernel, against its reference: the rounding of a near value, the sum bit-equal."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.cuda.cases import KINDS, halves
from tests.backends.cuda.comparison import norm_tolerance, not_equal, not_rounded
from tests.backends.cuda.interpreter import Interpreter
from vitgraph.backends.cuda import reference


def operands(rows: int, width: int, kind: str = "random", *, residual: bool = True) -> dict[str, Any]:
    return {
        "x": halves(kind, rows, width),
        "weight": torch.randn(width),
        "bias": torch.randn(width),
        "eps": 1e-6,
        "residual": torch.randn(rows, width).half() if residual else None,
    }


def fault(interpreter: Interpreter, scale: float | None = None, **given: Any) -> str | None:
    _, total = reference.normalize(**given)
    value = reference.normalized_values(total, given["weight"], given["bias"], given["eps"])
    rows, columns = value.shape
    found, found_total = interpreter.run("normalize", rows=rows, columns=columns, **given, scale=scale)
    return not_rounded(found, value, scale, norm_tolerance(value, given["bias"])) or not_equal(found_total, total)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 9),
    width=st.integers(1, 300),
    kind=st.sampled_from(KINDS),
    residual=st.booleans(),
    scale=st.none() | st.sampled_from((1e-30, 0.02, 0.3, 1e30)),
    seed=st.integers(0, 2**16),
)
def test_is_near_reference(
    interpreter: Interpreter, rows: int, width: int, kind: str, residual: bool, scale: float | None, seed: int
) -> None:
    torch.default_generator.manual_seed(seed)
    assert fault(interpreter, scale=scale, **operands(rows, width, kind, residual=residual)) is None


@pytest.mark.parametrize(("rows", "width"), [(1, 4096), (5, 1024), (33, 192), (3, 769)])
def test_is_near_reference_at_widths_of_models(interpreter: Interpreter, rows: int, width: int) -> None:
    assert fault(interpreter, scale=0.02, **operands(rows, width)) is None
    assert fault(interpreter, **operands(rows, width, residual=False)) is None


def test_codes_rarely_differ(interpreter: Interpreter) -> None:
    """One in a thousand may: those whose value is halfway between two, as far as FP32 can tell."""
    given = operands(64, 192)
    wanted, _ = reference.normalize(**given, scale=0.02)
    found, _ = interpreter.run("normalize", rows=64, columns=192, **given, scale=0.02)
    assert (found != wanted).float().mean() < 1e-3


def test_small_deviations_far_from_zero(interpreter: Interpreter) -> None:
    """One value in a row of equal large ones, apart from them by one step of FP16: the variance is far below the mean."""
    x = torch.full((2, 257), 2049.0).half()
    x[0, 100] = 2052
    given: dict[str, Any] = {"x": x, "weight": torch.ones(257), "bias": torch.zeros(257), "eps": 1e-6, "residual": None}
    assert fault(interpreter, **given) is None
    assert fault(interpreter, **given, scale=0.125) is None


@pytest.mark.parametrize("place", ["x", "residual"])
def test_the_sum_may_take_the_place_of_an_operand(interpreter: Interpreter, place: str) -> None:
    given = operands(37, 200)
    apart = interpreter.run("normalize", rows=37, columns=200, **given)
    found = interpreter.run("normalize", rows=37, columns=200, **given, in_place=place)
    assert [not_equal(one, other) for one, other in zip(found, apart, strict=True)] == [None, None]


@pytest.mark.parametrize("planted", ["weight", "bias", "residual", "scale", "eps"])
def test_notices(interpreter: Interpreter, planted: str) -> None:
    """The comparison objects to an operand that is wrong."""
    right: dict[str, Any] = operands(7, 48) | {"scale": 0.02}
    wrong = dict(right)
    wrong[planted] = {"scale": 0.0205, "eps": 0.1}.get(planted) or right[planted].roll(1, -1)
    value = reference.normalized_values(right["x"].float() + right["residual"], right["weight"], right["bias"], 1e-6)
    found, _ = interpreter.run("normalize", rows=7, columns=48, **wrong)
    assert not_rounded(found, value, 0.02, norm_tolerance(value, right["bias"]))
    assert fault(interpreter, **right) is None
