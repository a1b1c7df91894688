"""Budgets as people write them."""

import pytest

from vitgraph.errors import InputError
from vitgraph.searching.budget import read_limit, show_cost


@pytest.mark.parametrize("text", ["2.9", "x2", "0x", "-1x", "3 ms", "6T", ""])
def test_a_budget_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="write how many times"):
        read_limit(text)


@pytest.mark.parametrize(
    ("text", "unit", "limit"),
    [("2x", "FLOPs", 4e9), ("6.06G", "FLOPs", 6.06e9), ("350M", "FLOPs", 350e6), ("0.8ms", "ms", 0.8), ("12mJ", "mJ", 12)],
)  # fmt: skip
def test_what_it_limits(text: str, unit: str, limit: float) -> None:
    read = read_limit(text)
    assert read.unit == unit
    assert read.of(8e9) == pytest.approx(limit)


def test_costs_are_shown_in_their_unit() -> None:
    assert [show_cost(6.06e9, "FLOPs"), show_cost(350e6, "FLOPs"), show_cost(0.8, "ms"), show_cost(12, "mJ")] == [
        "6.06 GFLOPs", "350 MFLOPs", "0.8 ms", "12 mJ",
    ]  # fmt: skip
