"""Attention of codes against its reference: equal, but where the code of a probability is in doubt."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.backends.cuda.cases import KINDS, codes, qkv_codes
from tests.backends.cuda.comparison import attention_fault, not_equal
from tests.backends.cuda.interpreter import Interpreter
from vitgraph.backends.cuda import reference

SCALES: dict[str, Any] = {"score_factor": 2e-4, "probability_scale": 1 / 127, "value_scale": 0.02}


def run(interpreter: Interpreter, qkv: Tensor, **scales: Any) -> Tensor:
    batch, tokens, _, heads, depth = qkv.shape
    (found,) = interpreter.run("attention", rows=batch * tokens, columns=heads * depth, qkv=qkv, **scales)
    return found


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 80), st.integers(1, 3), st.integers(1, 40)),
    kind=st.sampled_from(KINDS),
    score_factor=st.sampled_from((1e-12, 2e-4, 1e-2, 10.0)),
    probability_scale=st.sampled_from((1e-20, 1e-3, 1 / 127, 0.1, 1e20)),
    out_scale=st.none() | st.sampled_from((1e-20, 1e-3, 0.02, 10.0)),
    seed=st.integers(0, 2**16),
)
def test_equals_reference(
    interpreter: Interpreter,
    sizes: tuple[int, int, int, int],
    kind: str,
    score_factor: float,
    probability_scale: float,
    out_scale: float | None,
    seed: int,
) -> None:
    torch.default_generator.manual_seed(seed)
    qkv = qkv_codes(*sizes, kind)
    scales: dict[str, Any] = {
        "score_factor": score_factor,
        "probability_scale": probability_scale,
        "value_scale": 0.02,
        "out_scale": out_scale,
    }
    assert attention_fault(run(interpreter, qkv, **scales), qkv, **scales) is None


@pytest.mark.parametrize(("tokens", "depth"), [(197, 64), (257, 48), (1, 64), (513, 32)])
def test_equals_reference_at_sizes_of_models(interpreter: Interpreter, tokens: int, depth: int) -> None:
    qkv = qkv_codes(1, tokens, 1, depth)
    scales = SCALES | {"probability_scale": 4 / tokens / 127, "out_scale": 2e-3}
    found = run(interpreter, qkv, **scales)
    assert attention_fault(found, qkv, **scales) is None
    wanted = reference.attention(*qkv.unbind(2), **scales)
    assert (found != wanted).float().mean() < 0.01  # what is in doubt is little


def test_bounds_are_tight(interpreter: Interpreter) -> None:
    """Where no probability is in doubt, results are equal, and one code of v that is another is noticed."""
    qkv = qkv_codes(1, 5, 1, 8)
    found = run(interpreter, qkv, **SCALES)
    assert not_equal(found, reference.attention(*qkv.unbind(2), **SCALES)) is None
    qkv[0, 2, 2, 0, 3] += 1
    assert attention_fault(found, qkv, **SCALES)


def test_queries_may_be_fewer_than_keys(interpreter: Interpreter) -> None:
    """Pooled queries: q, k and v are tensors of their own."""
    q, k, v = codes("random", 2, 3, 2, 16), codes("random", 2, 70, 2, 16), codes("random", 2, 70, 2, 16)
    (found,) = interpreter.run("attention", rows=6, columns=32, q=q, k=k, v=v, **SCALES)
    wanted = reference.attention(q, k, v, **SCALES)
    assert (found.float() - wanted.float()).abs().max() <= 0.02 * 128 / 127 + 0.01


@pytest.mark.parametrize(
    "planted", ["score_factor", "probability_scale", "value_scale", "q and k", "k and v", "heads", "last key"]
)
def test_notices(interpreter: Interpreter, planted: str) -> None:
    """The comparison objects to an operand that is wrong."""
    qkv = qkv_codes(2, 37, 2, 16)
    wrong, scales = qkv.clone(), dict(SCALES)
    if planted in scales:
        scales[planted] *= 1.02
    elif planted == "heads":
        wrong = wrong.flip(3)
    elif planted == "last key":
        wrong[:, -1, 1] = 0
    else:
        order = [1, 0, 2] if planted == "q and k" else [0, 2, 1]
        wrong = wrong[:, :, order]
    found = run(interpreter, wrong.contiguous(), **scales)
    assert attention_fault(found, qkv, **SCALES)
    assert attention_fault(run(interpreter, qkv, **SCALES), qkv, **SCALES) is None
