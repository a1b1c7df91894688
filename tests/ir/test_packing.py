"""Packed bytes: the densities of the sparse instructions, and which patterns a weight obeys."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitgraph.ir.packing import SPARSE, Packing, find_packing


@pytest.mark.parametrize(("bits", "density"), [(16, 0.5625), (8, 0.625), (4, 0.625)])
def test_densities_of_the_sparse_instructions(bits: int, density: float) -> None:
    assert SPARSE[bits].density(bits) == density


def test_an_element_wise_pattern_at_four_bits_would_take_more() -> None:
    assert Packing(2, 4).density(4) == 0.75  # and no kernel reads it
    assert Packing(2, 4).density(32) == 1.0


def test_names() -> None:
    assert [str(each) for each in (Packing(2, 4), Packing(1, 4), SPARSE[4])] == ["2:4", "1:4", "4:8 in pairs"]
    assert [str(each) for each in (Packing(2, 8), Packing(2, 8, v=64), Packing(2, 5, v=16))] == [
        "2:8",
        "64:2:8",
        "16:2:5",
    ]


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_what_is_kept_of_v_n_m_is_packed_as_2_of_4(bits: int) -> None:
    """Of a tile of 64 × 8, half of the columns as 2:4, and which four these are: 4 × 3 bits."""
    dense = 64 * 8 * bits
    assert Packing(2, 8, v=64).density(bits) * dense == 64 * 4 * bits * Packing(2, 4).density(bits) + 12
    assert Packing(2, 8, v=64).density(bits) < Packing(2, 8).density(bits) < Packing(2, 4).density(bits)


def masked(n: int, m: int, group_size: int, rows: int, groups: int, seed: int) -> torch.Tensor:
    """A random pattern that keeps n of each m."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(rows, groups, m, generator=generator).argsort(-1) < n
    return chosen.repeat_interleave(group_size, -1).reshape(rows, -1)


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


def tiled(n: int, m: int, v: int, rows: int, groups: int, seed: int) -> torch.Tensor:
    """A random pattern in which v rows share four columns of each m, and each row keeps n of these."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.rand(rows // v, 1, groups, m, generator=generator).argsort(-1).argsort(-1) < 4
    scores = torch.rand(rows // v, v, groups, m, generator=generator).masked_fill(~columns, -1)
    return (scores.argsort(-1, descending=True).argsort(-1) < n).reshape(rows, -1)


@given(st.integers(1, 3), st.integers(5, 16), st.sampled_from([16, 32, 64]), st.integers(1, 3), st.integers(0, 99))
def test_tiles_that_share_columns_are_found(n: int, m: int, v: int, groups: int, seed: int) -> None:
    keep = tiled(n, m, v, 2 * v, groups, seed)
    pattern = Packing(n, m, v=v)
    assert pattern.holds(keep)
    found = find_packing(keep, 8)
    assert found is not None
    assert found.holds(keep)
    assert found.density(8) <= pattern.density(8)


@given(st.sampled_from([Packing(2, 4), Packing(3, 7), Packing(2, 4, 2), Packing(2, 8, v=4)]), st.integers(0, 99))
def test_one_weight_more_and_a_pattern_no_longer_holds(pattern: Packing, seed: int) -> None:
    if pattern.v > 1:
        keep = tiled(pattern.n, pattern.m, pattern.v, 8, 3, seed)
    else:
        keep = masked(pattern.n, pattern.m, pattern.group_size, 8, 3, seed)
    assert pattern.holds(keep)
    dropped = (~keep).nonzero()
    row, column = map(int, dropped[seed % len(dropped)])
    keep[row, column] = True
    assert not pattern.holds(keep)


def test_a_fifth_column_breaks_a_tile_though_each_row_keeps_enough_zeros() -> None:
    keep = torch.zeros(16, 8, dtype=torch.bool)
    keep[:, 0] = keep[:8, 1] = keep[8:, 2] = True
    keep[0, 0], keep[0, 5] = False, True
    assert Packing(2, 8, v=16).holds(keep)  # columns 0, 1, 2 and 5
    keep[3, 1], keep[3, 6] = False, True
    assert Packing(2, 8).holds(keep)
    assert not Packing(2, 8, v=16).holds(keep)


def test_shapes_that_a_pattern_does_not_divide() -> None:
    assert not Packing(2, 4).holds(torch.zeros(4, 6, dtype=torch.bool))
    assert not Packing(2, 8, v=16).holds(torch.zeros(8, 8, dtype=torch.bool))


def test_a_convolution_is_held_along_its_input_channels() -> None:
    keep = torch.tensor([True, False, True, False]).reshape(1, 4, 1, 1).expand(2, 4, 3, 3)
    assert Packing(2, 4).holds(keep)
    assert not Packing(1, 4).holds(keep)
