"""Budgets are met, everybody pays the same slope, and less budget never gives anybody more."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitgraph.passes.pruning.allocation import Part, allocate


def part(losses: list[float], costs: list[float], name: str = "") -> Part:
    return Part(name, tuple(range(len(losses))), losses.__getitem__, costs.__getitem__)


@st.composite
def parts(draw: st.DrawFn) -> list[Part]:
    """Losses that grow in any way, costs that fall in any way (or stay)."""
    found = list[Part]()
    for _ in range(draw(st.integers(1, 4))):
        count = draw(st.integers(1, 6))
        rises = draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
        falls = draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
        losses, costs = [0.0], [float(sum(falls) + 1)]
        for rise, fall in zip(rises, falls, strict=True):
            losses.append(losses[-1] + rise)
            costs.append(costs[-1] - fall)
        found.append(part(losses, costs))
    return found


def spent(parts: list[Part], lost: list[int]) -> float:
    return sum(each.cost(count) for each, count in zip(parts, lost, strict=True))


@settings(max_examples=200, deadline=None)
@given(parts(), st.floats(0.1, 1), st.booleans())
def test_budgets_are_met_and_hardly_more(parts: list[Part], share: float, even: bool) -> None:
    """What is left is within the budget where that can be had, and one step of one part back it is not."""
    budget = share * spent(parts, [0] * len(parts))
    lost = allocate(parts, budget, even)
    least = sum(each.cost(each.steps[-1]) for each in parts)
    if least > budget:
        return
    assert spent(parts, lost) <= budget
    back = [spent(parts, [*lost[:i], count - 1, *lost[i + 1 :]]) for i, count in enumerate(lost) if count]
    assert not back or max(back) > budget or even or spent(parts, lost) == max(back)


@settings(max_examples=200, deadline=None)
@given(parts(), st.floats(0.1, 1), st.floats(0.1, 1))
def test_a_smaller_budget_takes_no_less_on_the_hull(parts: list[Part], one: float, other: float) -> None:
    whole = spent(parts, [0] * len(parts))
    small, large = sorted((one * whole, other * whole))
    tight, loose = allocate(parts, small), allocate(parts, large)
    assert all(a >= b for a, b in zip(tight, loose, strict=True))


def test_everybody_pays_the_same_slope() -> None:
    """Squares: the best split of what is to be saved is by slope, not by halves. Checked against all splits."""
    parts = [part([scale * k**2 for k in range(11)], [10.0 - k for k in range(11)]) for scale in (1.0, 4.0)]
    lost = allocate(parts, 10.0)
    assert lost == [8, 2]
    splits = [each for each in product(range(11), repeat=2) if sum(each) == 10]
    assert min(splits, key=lambda split: sum(p.loss(k) for p, k in zip(parts, split, strict=True))) == (8, 2)
    assert allocate(parts, 10.0, uniform=True) == [5, 5]


def test_dead_weight_goes_first_and_costly_things_before_cheap_ones() -> None:
    parts = [part([0.0, 0.0, 5.0], [10.0, 9.0, 8.0]), part([0.0, 5.0], [10.0, 0.0])]
    assert allocate(parts, 19.0) == [1, 0]
    assert allocate(parts, 18.0) == [1, 1]  # for a loss of 5 the second saves ten times what the first does


def test_a_loss_that_falls_is_taken_at_once() -> None:
    """The power term makes curves fall: what saves energy and hurts nobody goes before the budget asks for it."""
    assert allocate([part([3.0, 1.0, 9.0], [3.0, 2.0, 1.0]), part([0.0, 4.0, 8.0], [3.0, 2.0, 1.0])], 5.0) == [1, 0]


def test_costs_that_stay_are_passed_over() -> None:
    """As of estimates, which stay until enough tiles are gone to pay: all or nothing."""
    parts = [part([0.0, 1.0, 2.0, 3.0], [9.0, 9.0, 9.0, 5.0]), part([0.0, 1.0], [2.0, 1.0])]
    assert allocate(parts, 10.0) == [3, 0]
    assert allocate(parts, 6.0) == [3, 1]


@settings(max_examples=200, deadline=None)
@given(parts(), st.floats(0.1, 1), st.booleans())
def test_nothing_more_could_be_given_back(parts: list[Part], share: float, even: bool) -> None:
    budget = share * spent(parts, [0] * len(parts))
    lost, coarse = allocate(parts, budget, even, slack=0.0), allocate(parts, budget, even)
    assert all(a <= b for a, b in zip(lost, coarse, strict=True))
    if spent(parts, coarse) > budget:
        assert lost == coarse  # out of reach
        return
    assert spent(parts, lost) <= budget
    for i, count in enumerate(lost):
        back = spent(parts, [*lost[:i], count - 1, *lost[i + 1 :]]) if count else budget + 1
        assert back > budget - 1e-9


def test_what_a_coarse_step_leaves_unused_goes_to_finer_ones() -> None:
    """A head costs 5, a unit 1: the head goes last and saves more than was asked for, so that units stay."""
    parts = [part([0.0, 0.1, 0.3, 0.6], [3.0, 2.0, 1.0, 0.0]), part([0.0, 4.0], [5.0, 0.0])]
    assert allocate(parts, 2.5) == [3, 1]
    assert allocate(parts, 2.5, slack=0.0) == [1, 1]


def test_out_of_reach_all_goes_that_may() -> None:
    assert allocate([part([0.0, 1.0, 5.0], [3.0, 2.0, 1.0])], 0.5) == [2]


@pytest.mark.parametrize("count", [10, 1000])
def test_curves_are_looked_at_in_101_points(count: int) -> None:
    asked = set[int]()

    def loss(lost: int) -> float:
        asked.add(lost)
        return float(lost**2)

    whole = Part("", tuple(range(count + 1)), loss, lambda lost: float(count - lost))
    assert allocate([whole], count / 2) == [count / 2]
    assert len(asked) == min(101, count + 1)
