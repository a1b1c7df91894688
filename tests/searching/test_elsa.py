"""The whole search on the embedded digits, small."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.levels_model import COST, SPACE
from tests.searching.test_supernet import space as digits_space
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.from_digits import PREPROCESSING
from vitgraph.frontend.models import load_model
from vitgraph.images.image_set import open_images
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.passes.prepared import prepare
from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.searching.elsa import Elsa, ElsaSearch, Result, Trained
from vitgraph.searching.evolution import Evolution
from vitgraph.searching.level_sensitivity import LevelSensitivity
from vitgraph.searching.levels import Choice, SearchBudget, flops
from vitgraph.searching.sampling import Policy
from vitgraph.training.distill import Schedule
from vitgraph.training.random_states import seeded

SMALL = Elsa(
    Schedule(epochs=1, batch=32, learning_rate=2e-4), Evolution(6, 2), held_out=40, rounds=3, judged=4, pool=8
)  # fmt: skip


class Stopped(Exception):
    """Stands for a kill."""


def run(folder: Path | None = None, stop: tuple[str, int] | None = None, settings: Elsa = SMALL) -> tuple[Trained, Result, ElsaSearch]:  # fmt: skip
    """A search on 200 digits; `stop` says at which piece of work, and how far in it, the process dies."""
    model = load_model("digits-vit")
    program = prepare(capture_model(model))
    cost = flops(program, digits_space())

    def progress(what: str, done: int, total: int) -> None:
        if stop is not None and what.startswith(stop[0]) and done >= stop[1]:
            raise Stopped

    images = open_images("digits:train", PREPROCESSING, limit=200)
    checkpoint = Checkpoint(folder, "key")
    budget = SearchBudget("1.8x", cost.of(digits_space().dense) / 1.8)
    search = ElsaSearch(model.module, digits_space(), cost, budget, images, nm_keep, settings, checkpoint, progress)
    trained = search.train()
    return trained, search.choose(trained), search


def same(first: tuple[Trained, Result, ElsaSearch], second: tuple[Trained, Result, ElsaSearch]) -> bool:
    weights = [each[0].supernet.state_dict() for each in (first, second)]
    return (
        all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
        and first[1].subnets == second[1].subnets
        and first[0].losses == second[0].losses
    )


@pytest.mark.slow
def test_chooses_within_the_budget_and_no_worse_than_its_baselines() -> None:
    trained, result, search = run()
    assert bool((trained.sensitivity.alone[:, :-1] > 0).all())
    assert bool((trained.sensitivity.alone[:, -1] == 0).all())
    assert not trained.original.training
    cost = result.chosen.cost
    assert cost <= result.baselines["dense"].cost / 1.8
    for name in ("uniform", "ERK"):
        assert result.baselines[name].cost <= result.baselines["dense"].cost / 1.8
        assert result.chosen.score.divergence <= result.baselines[name].score.divergence
    assert trained.images == (160, 40)
    assert len(trained.losses) == 3
    assert trained.policy.visits.sum() == 2 * 4 * len(search.space.layers)
    before = dict(load_model("digits-vit").module.named_parameters())
    after = dict(search.module.named_parameters())
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    assert all(torch.equal(value, before[name]) for name, value in trained.original.named_parameters())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_search_and_another_does_not() -> None:
    first = run()
    assert same(first, run())
    other = replace(SMALL, schedule=replace(SMALL.schedule, seed=1))
    assert not same(first, run(settings=other))


@pytest.mark.slow
@pytest.mark.parametrize("stop", [("layers alone", 15), ("supernet", 4), ("policy, round 2", 2), ("search", 7)])
def test_stopped_and_started_again_it_ends_the_same(stop: tuple[str, int], tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, stop)
    kept = sorted(tmp_path.iterdir())
    assert kept
    again = run(tmp_path)
    assert same(run(), again)
    reached = list[str]()

    def seen(what: str, done: int, total: int) -> None:
        reached.append(what)

    model = load_model("digits-vit")
    replace(again[2], module=model.module, progress=seen).train()
    assert reached == []  # all of it was kept


def test_of_a_pool_within_the_budget_the_one_that_bears_most_is_trained() -> None:
    alone = LevelSensitivity.of(SPACE, [0.1, 0.05, 9.0, 5.0, *[0.1, 0.05] * 2])
    limit = COST.of((1, 1, 1, 1))

    def drawn(pool: int) -> list[Choice]:
        images, settings = open_images("digits:train", PREPROCESSING, limit=4), replace(SMALL, pool=pool)
        search = ElsaSearch(
            nn.Identity(), SPACE, COST, SearchBudget("", limit), images, nm_keep, settings, Checkpoint(None, "")
        )
        draw = search._draw  # pyright: ignore[reportPrivateUsage]
        return [draw(Policy(SPACE), alone, 1.0, seeded(0, "test", number)) for number in range(20)]

    many, one = drawn(16), drawn(1)
    assert all(COST.of(choice) <= limit for choice in many + one)
    worst = [max(map(alone.expected, choices)) for choices in (many, one)]
    assert worst[0] < 6
    assert worst[1] > 9
    assert len(set(one)) > 1
    assert many == drawn(16)


def test_nothing_is_held_out_where_there_is_too_little() -> None:
    from vitgraph.errors import InputError

    with pytest.raises(InputError, match="are to be held out"):
        run(settings=replace(SMALL, held_out=150))
