"""States of optimizers as tensors alone, and back."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import Tensor, nn

from vitgraph.training.state import pack, part_of, prefixed, unpack

LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5)
STATES = st.recursive(
    LEAVES | st.builds(torch.zeros, st.integers(0, 3)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=10,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)  # pyright: ignore
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))  # pyright: ignore
    return bool(type(a) is type(b) and a == b)


@given(STATES)
def test_it_comes_back(state: Any) -> None:
    assert same(unpack(pack(state)), state)


def test_what_can_not_be_kept_is_said() -> None:
    with pytest.raises(TypeError, match="a set can't be kept"):
        pack({"a": {1, 2}})


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "adafactor", "lion", "nadamw"])
def test_optimizers_of_timm_go_on(name: str) -> None:
    """Two steps, kept and taken over by another, then a third: as three in one go."""

    def steps(model: nn.Linear, optimizer: Any, first: int, last: int) -> None:
        for step in range(first, last):
            model.weight.grad = torch.full_like(model.weight, 0.1 * (step + 1))
            optimizer.step()

    def made() -> tuple[nn.Linear, Any]:
        model = nn.Linear(3, 3, bias=False)
        nn.init.ones_(model.weight)
        untyped: Any = create_optimizer_v2
        return model, untyped(model, opt=name, lr=0.1)

    whole, optimizer = made()
    steps(whole, optimizer, 0, 3)
    first, before = made()
    steps(first, before, 0, 2)
    second, after = made()
    second.load_state_dict(first.state_dict())
    after.load_state_dict(unpack(pack(before.state_dict())))
    steps(second, after, 2, 3)
    assert torch.equal(second.weight, whole.weight)


def test_parts_are_told_apart_by_their_names() -> None:
    parts = {**prefixed("a", {"x": torch.ones(1)}), **prefixed("ab", {"y": torch.zeros(1)})}
    assert list(part_of("a", parts)) == ["x"]
