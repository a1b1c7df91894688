"""Evolutionary search over choices of levels: better on held-out images, within a budget.

NSGA-II (Deb et al., IEEE Trans. Evol. Comput. 6, 2002) as optuna has it breeds generations under two aims, score and cost. The
budget is a window, as in ELSA (arXiv 2409.09708): a child outside of it is brought back by moving random layers one level at
a time, before it is judged. ELSA's own loop (parents by roulette, half of the mutations to fill bins of FLOPs) is a hand-made
form of the same; a sorted front with crowding keeps the window filled without bins.

ELSA draws genes by what each level of each layer has done so far. Here that is a linear model: a gain for each level of each layer,
fitted to all scores, says where near the best there should be better ones, and each generation has some of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor

from vitgraph.domains import Population, ProperFraction, Repeats, Seed, hold_fields
from vitgraph.searching.levels import Choice, LevelCost, Space
from vitgraph.training.held_out import HeldOutScore
from vitgraph.training.random_states import seeded

JudgeAll = Callable[[int, Sequence[Choice]], Sequence[HeldOutScore]]
"""The scores of choices; told which generation they are of."""


GUESSES = 3
"""How many of a generation the linear model names."""
RIDGE = 2.0


@dataclass(frozen=True)
class Evolution:
    """How long to search: ELSA's defaults."""

    population: Population = 50
    generations: Repeats = 20
    window: ProperFraction = 0.05
    """How far under the budget a choice may cost, as a share of it."""
    aim: Literal["divergence", "accuracy"] = "divergence"
    """What is to be low (`divergence`) or high (`accuracy`, as in the paper)."""
    seed: Seed = 0

    def __post_init__(self) -> None:
        hold_fields(self)


@dataclass(frozen=True)
class Subnet:
    """A choice that was judged."""

    choice: Choice
    cost: float
    score: HeldOutScore
    generation: int


def evolve(
    space: Space, cost: LevelCost, limit: float, judge: JudgeAll, settings: Evolution, starts: Sequence[Choice]
) -> list[Subnet]:
    """Every choice that was judged, each once, in order; the first generation has `starts` in it.

    The same arguments and scores give the same choices: a search that was stopped is run again with the scores it had.
    """
    study, found, named = _study(settings), dict[Choice, Subnet](), set[Choice]()

    def fit(genes: Choice) -> Choice:
        if genes in named and cost.of(genes) <= limit:
            return genes  # a baseline stays itself, though it may cost less than the window
        return into_window(space, cost, limit, settings.window, genes, settings.seed)

    def enqueue(choice: Choice) -> None:
        named.add(choice)
        study.enqueue_trial({layer.path: place for layer, place in zip(space.layers, choice, strict=True)})

    for choice in list(dict.fromkeys(starts))[: settings.population]:
        enqueue(choice)
    for generation in range(settings.generations):
        for choice in guess(space, cost, limit, list(found.values()), settings.aim):
            enqueue(choice)
        trials = [study.ask() for _ in range(settings.population)]
        choices = [fit(_genes(space, trial)) for trial in trials]
        fresh = [choice for choice in dict.fromkeys(choices) if choice not in found]
        for choice, score in zip(fresh, judge(generation, fresh), strict=True):
            found[choice] = Subnet(choice, cost.of(choice), score, generation)
        for trial, choice in zip(trials, choices, strict=True):
            study.tell(trial, [merit(found[choice].score, settings.aim), found[choice].cost])
    return list(found.values())


def _study(settings: Evolution) -> Any:
    optuna: Any = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.NSGAIISampler(population_size=settings.population, seed=settings.seed)
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


def _genes(space: Space, trial: Any) -> Choice:
    places = [trial.suggest_categorical(layer.path, list(range(len(layer.levels)))) for layer in space.layers]
    return tuple(int(place) for place in places)


def guess(space: Space, cost: LevelCost, limit: float, found: Sequence[Subnet], aim: str) -> list[Choice]:
    """Choices within the limit that a linear model of all scores expects most of, none of them judged yet; at most `GUESSES`.

    From each of the best ones it climbs by one or two layers at a time.
    """
    if not found:
        return []
    gains = _gains(space, found, aim)

    def expected(choice: Choice) -> float:
        return float(sum(gains[layer, place] for layer, place in enumerate(choice)))

    known, guesses = {each.choice for each in found}, list[Choice]()
    for start in sorted(found, key=lambda each: -merit(each.score, aim))[:GUESSES]:
        choice, better = start.choice, True
        while better:
            near = [each for each in _near(space, choice) if cost.of(each) <= limit]
            highest = max(near, key=expected, default=choice)
            better = expected(highest) > expected(choice) + 1e-9
            choice = highest if better else choice
        unseen = [each for each in (choice, *_near(space, choice)) if each not in known and cost.of(each) <= limit]
        if unseen:
            guesses.append(max(unseen, key=expected))
            known.add(guesses[-1])
    return guesses


def _near(space: Space, choice: Choice) -> list[Choice]:
    """Every choice that differs by a level in one layer, or in two of which one goes up and the other down."""
    up, down = ([each for _, each in space.neighbours(choice, step)] for step in (1, -1))
    swapped = [each for once in up for _, each in space.neighbours(once, -1)]
    return list(dict.fromkeys(each for each in (*up, *down, *swapped) if each != choice))


def _gains(space: Space, found: Sequence[Subnet], aim: str) -> Tensor:
    """What each level of each layer adds to the merit, `[layers, levels]`: ridge regression on all that was judged."""
    most = max(len(layer.levels) for layer in space.layers)
    has = torch.zeros(len(found), len(space.layers), most, dtype=torch.float64)
    for row, each in enumerate(found):
        has[row, torch.arange(len(space.layers)), torch.tensor(each.choice)] = 1
    merits = torch.tensor([merit(each.score, aim) for each in found], dtype=torch.float64)
    inputs, outputs = has.flatten(1) - has.flatten(1).mean(0), merits - merits.mean()
    normal = inputs.T @ inputs + RIDGE * torch.eye(inputs.shape[1], dtype=torch.float64)
    untyped: Any = torch.linalg
    solved: Tensor = untyped.solve(normal, inputs.T @ outputs)
    return solved.view(len(space.layers), most)


def into_window(space: Space, cost: LevelCost, limit: float, window: float, choice: Choice, seed: int) -> Choice:
    """The choice with random layers moved a level at a time until it costs at most `limit`, and no less than `window` under it.

    The same choice always ends in the same one. Where no step up fits any more, it stays under the window.
    """
    generator = seeded(seed, f"window {choice}")

    def pick(options: list[Choice]) -> Choice:
        return options[int(torch.randint(len(options), (1,), generator=generator))]

    while cost.of(choice) > limit:
        choice = pick([each for _, each in space.neighbours(choice, -1)])
    while cost.of(choice) < limit * (1 - window):
        higher = [each for _, each in space.neighbours(choice, 1) if cost.of(each) <= limit]
        if not higher:
            break
        choice = pick(higher)
    return choice


def merit(score: HeldOutScore, aim: str) -> float:
    """What is maximized."""
    return score.accuracy if aim == "accuracy" else -score.divergence


def best(subnets: Sequence[Subnet], aim: str, limit: float) -> Subnet:
    """The best of those that cost at most `limit`; of equals the one with the other aim better, then the cheapest."""
    within = [each for each in subnets if each.cost <= limit]
    return max(within, key=lambda each: (merit(each.score, aim), -each.score.divergence, -each.cost))


def front(subnets: Sequence[Subnet], aim: str) -> list[Subnet]:
    """Those that no other beats in score without costing more, by cost (the Pareto front)."""
    found = list[Subnet]()
    for each in sorted(subnets, key=lambda each: (each.cost, -merit(each.score, aim))):
        if not found or merit(each.score, aim) > merit(found[-1].score, aim):
            found.append(each)
    return found
