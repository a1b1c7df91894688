"""The search itself, on scores that are a function of the choice."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.levels_model import COST, SPACE
from vitgraph.searching.evolution import GUESSES, Evolution, Subnet, best, evolve, front, guess, into_window
from vitgraph.searching.levels import Choice
from vitgraph.training.held_out import HeldOutScore

LIMIT = COST.of((1, 1, 1, 1))
WORTH = (1.0, 9.0, 3.0, 2.0)
"""Of a level more in each layer: dense b and sparse d is what to find."""


def toy(choice: Choice) -> HeldOutScore:
    worth = sum(place * value for place, value in zip(choice, WORTH, strict=True))
    return HeldOutScore(worth, 100 - worth)


def judge(generation: int, choices: Sequence[Choice]) -> list[HeldOutScore]:
    return [toy(choice) for choice in choices]


def search(
    seed: int = 0,
    by: Callable[[int, Sequence[Choice]], list[HeldOutScore]] = judge,
    aim: Literal["divergence", "accuracy"] = "accuracy",
) -> list[Subnet]:
    return evolve(SPACE, COST, LIMIT, by, Evolution(12, 10, 0.2, aim, seed), [(1, 1, 1, 1)])  # fmt: skip


def best_of_all() -> float:
    return max(toy(each).accuracy for each in product(range(3), repeat=4) if COST.of(each) <= LIMIT)


@pytest.mark.parametrize("aim", ["accuracy", "divergence"])
def test_finds_the_best_within_the_budget(aim: Literal["divergence", "accuracy"]) -> None:
    found = search(aim=aim)
    assert best(found, aim, LIMIT).score.accuracy == best_of_all()
    assert all(each.cost <= LIMIT for each in found)
    assert best_of_all() > toy((1, 1, 1, 1)).accuracy


def test_every_choice_is_judged_once_and_the_start_is_among_them() -> None:
    found = search()
    choices = [each.choice for each in found]
    assert len(set(choices)) == len(choices)
    assert (1, 1, 1, 1) in choices


def test_the_same_seed_gives_the_same_search() -> None:
    assert search(3) == search(3)
    assert [each.choice for each in search(3)] != [each.choice for each in search(4)]


def test_a_linear_model_of_the_scores_names_the_best_of_linear_scores() -> None:
    places = [each for each in product(range(3), repeat=4) if toy(each).accuracy < best_of_all()][::3]
    found = [Subnet(each, COST.of(each), toy(each), 0) for each in places]
    named = guess(SPACE, COST, LIMIT, found, "accuracy")
    assert max(toy(each).accuracy for each in named) == best_of_all()
    assert not set(named) & set(places)
    assert all(COST.of(each) <= LIMIT for each in named)
    assert len(set(named)) == len(named) <= GUESSES
    worst = guess(
        SPACE, COST, LIMIT, [replace(each, score=HeldOutScore(-each.score.accuracy, 0)) for each in found], "accuracy"
    )
    assert max(toy(each).accuracy for each in worst) < best_of_all()
    assert guess(SPACE, COST, LIMIT, [], "accuracy") == []


@given(st.tuples(*[st.integers(0, 2)] * 4), st.integers(0, 5), st.floats(0, 0.5))
def test_brought_into_the_window(choice: Choice, seed: int, window: float) -> None:
    fitted = into_window(SPACE, COST, LIMIT, window, choice, seed)
    assert COST.of(fitted) <= LIMIT
    under = COST.of(fitted) < LIMIT * (1 - window)
    assert not under or all(COST.of(each) > LIMIT for _, each in SPACE.neighbours(fitted, 1))
    assert fitted == into_window(SPACE, COST, LIMIT, window, choice, seed)


def test_a_choice_that_fits_stays() -> None:
    assert into_window(SPACE, COST, LIMIT, 0.2, (1, 1, 1, 1), 0) == (1, 1, 1, 1)
    assert into_window(SPACE, COST, LIMIT, 0.2, (2, 2, 2, 2), 0) != (2, 2, 2, 2)


def test_the_front_is_what_no_other_beats() -> None:
    subnets = [
        Subnet((0,), cost, HeldOutScore(accuracy, 0), 0) for cost, accuracy in ((3, 5), (1, 1), (2, 5), (2, 3), (4, 6))
    ]
    assert [(each.cost, each.score.accuracy) for each in front(subnets, "accuracy")] == [(1, 1), (2, 5), (4, 6)]
    assert best(subnets, "accuracy", 3.5).cost == 2
