"""Bias, GELU and quantization in one kernel, against its reference: bit-equal in the interpreter."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.cuda.cases import KINDS, SCALES, halves
from tests.backends.cuda.comparison import not_equal
from tests.backends.cuda.interpreter import Interpreter
from vitgraph.backends.cuda import reference


def fault(interpreter: Interpreter, **given: Any) -> str | None:
    wanted = reference.activate(**given)
    rows, columns = wanted.shape
    (found,) = interpreter.run("activate", rows=rows, columns=columns, **given)
    return not_equal(found, wanted)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 300),
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
    torch.manual_seed(seed)
    x = halves(kind, rows, columns)
    assert fault(interpreter, x=x, bias=torch.randn(columns) if bias else None, gelu=gelu, scale=scale) is None


def test_ties_go_to_even(interpreter: Interpreter) -> None:
    steps = torch.arange(-140, 140).half()[None, :] / 2
    (found,) = interpreter.run("activate", rows=1, columns=280, x=steps * 0.25, gelu=False, scale=0.25)
    assert found.tolist() == steps.clamp(-128, 127).round().tolist()


@pytest.mark.parametrize("planted", ["bias", "scale", "last row", "last column"])
def test_notices(interpreter: Interpreter, planted: str) -> None:
    """The comparison objects to an operand that is wrong."""
    right: dict[str, Any] = {"x": halves("random", 17, 257), "bias": torch.randn(257), "scale": 0.05}
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
    assert not_equal(found, reference.activate(**right))
