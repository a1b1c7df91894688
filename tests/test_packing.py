"""Packed bytes: the densities of the sparse instructions, and which patterns a weight obeys."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitgraph.packing import SPARSE, Packing, find_packing


@pytest.mark.parametrize(("bits", "density"), [(16, 0.5625), (8, 0.625), (4, 0.625)])
def test_densities_of_the_sparse_instructions(bits: int, density: float) -> None:
    assert SPARSE[bits].density(bits) == density


def test_an_element_wise_pattern_at_four_bits_would_take_more() -> None:
    assert Packing(2, 4).density(4) == 0.75  # and no kernel reads it
    assert Packing(2, 4).density(32) == 1.0


def test_names() -> None:
    assert [str(each) for each in (Packing(2, 4), Packing(1, 4), SPARSE[4])] == ["2:4", "1:4", "4:8 in pairs"]


def masked(n: int, m: int, together: int, rows: int, groups: int, seed: int) -> torch.Tensor:
    """A random pattern that keeps n of each m."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(rows, groups, m, generator=generator).argsort(-1) < n
    return chosen.repeat_interleave(together, -1).reshape(rows, -1)


@given(st.integers(1, 3), st.sampled_from([4, 8, 16]), st.integers(1, 5), st.integers(2, 6), st.integers(0, 99))
def test_what_obeys_n_of_m_packs_no_worse(n: int, m: int, rows: int, groups: int, seed: int) -> None:
    found = find_packing(masked(n, m, 1, rows, groups, seed), 8)
    if Packing(n, m).density(8) < 1:
        assert found is not None
        assert found.density(8) <= Packing(n, m).density(8)


@given(st.integers(1, 5), st.integers(0, 99))
def test_pairs(rows: int, seed: int) -> None:
    keep = masked(2, 4, 2, rows, 4, seed)
    assert find_packing(keep, 4) is not None
    keep[0, :8] = torch.tensor([1, 0, 1, 0, 1, 0, 1, 0], dtype=torch.bool)  # 2:4, but in four pairs
    packing = find_packing(keep, 4)
    assert packing is None or packing.density(4) > SPARSE[4].density(4)


def test_one_group_too_many_breaks_the_pattern() -> None:
    keep = masked(2, 4, 1, 8, 8, 0)
    assert find_packing(keep, 8) == Packing(2, 4)
    keep[3, 4:8] = True
    found = find_packing(keep, 8)
    assert found is None or found.density(8) > 0.625


def test_rows_that_no_group_divides_are_not_packed() -> None:
    assert find_packing(torch.zeros(4, 6, dtype=torch.bool), 8) is None
