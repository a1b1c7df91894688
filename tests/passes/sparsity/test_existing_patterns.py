"""The pattern of zeros that a weight came with: found for any N:M, and in no other weight."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import Packing
from vitgraph.passes.sparsity.existing_patterns import existing_pattern
from vitgraph.targets.target import get_target


def sparse(pattern: Packing, *shape: int, seed: int = 0) -> Tensor:
    """A weight that came with this pattern."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return weight * nm_keep(weight.abs(), pattern)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([(1, 4), (2, 4), (2, 8), (3, 8), (4, 8), (8, 16)]), st.integers(8, 24), st.integers(0, 99))
def test_any_pattern_is_found(pattern: tuple[int, int], rows: int, seed: int) -> None:
    """Or a tighter one that holds as well; with it the weight takes no more room than with its own."""
    given = Packing(*pattern)
    weight = sparse(given, rows, 32, seed=seed)
    found = existing_pattern(weight)
    assert found is not None
    assert found.holds(weight != 0)
    assert found.density(16) <= given.density(16)


def test_the_usual_one() -> None:
    assert existing_pattern(sparse(Packing(2, 4), 64, 64)) == Packing(2, 4)
    assert existing_pattern(sparse(Packing(2, 4), 8, 16, 3, 3)) == Packing(2, 4)
    assert existing_pattern(sparse(Packing(2, 8, v=32), 64, 64)) == Packing(2, 8, v=32)


def test_a_target_is_asked_for_what_it_multiplies() -> None:
    """1:4 is 2:4 to a device that has 2:4 only, and 3:8 is nothing to it."""
    weight = sparse(Packing(1, 4), 64, 64)
    assert existing_pattern(weight) == existing_pattern(weight, get_target("vegeta")) == Packing(1, 4)
    assert existing_pattern(weight, get_target("a100")) == Packing(2, 4)
    assert existing_pattern(sparse(Packing(3, 8), 64, 64), get_target("a100")) == Packing(3, 8)


@pytest.mark.parametrize(
    "weight",
    [
        torch.ones(8, 16),
        torch.zeros(8, 16),
        torch.ones(8, 16).masked_fill(torch.arange(16) == 3, 0.0),  # one dead channel
        torch.ones(8, 16).masked_fill(torch.arange(8).unsqueeze(1) > 3, 0.0),  # rows that went
        torch.ones(8, 16).masked_fill(torch.arange(16) % 2 == 1, 0.0),  # hidden units that went
        torch.ones(8, 16).masked_fill(torch.arange(16) % 4 + torch.arange(8).unsqueeze(1) % 4 == 3, 0.0),  # 3:4
        torch.ones(8, 7).masked_fill(torch.arange(7) % 2 == 1, 0.0),  # no whole groups
    ],
)
def test_what_has_none(weight: Tensor) -> None:
    assert existing_pattern(weight) is None
