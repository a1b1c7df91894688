"""What a search by ELSA puts into `search.json`, and the text of its masks; every number measured or null with a reason.

method, model, target, budget, space   what was asked, and which layers could take which levels (`refused`: which not, and why)
training, evolution, data              how, and on which images
alone                                  the divergence of each layer at each level, nothing else masked
dense, chosen, baselines               cost, score on the held-out images, `top1` on the evaluation images, level of each layer
front                                  the Pareto front of all that were judged: best score for each cost
population                             every choice that was judged, a digit a layer: the place of its level in `space`
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor

from vitgraph.searching.elsa import ElsaSearch, Result, Trained
from vitgraph.searching.evolution import Subnet, front
from vitgraph.searching.levels import Choice, Space
from vitgraph.training.held_out import HeldOutScore


def describe(search: ElsaSearch, trained: Trained, result: Result) -> dict[str, Any]:
    """The keys of `search.json` that the search itself knows."""
    settings, space, cost, budget = search.settings, search.space, search.cost, search.budget
    aim = settings.evolution.aim
    return {
        "budget": {"text": budget.text, "unit": cost.unit, "limit": budget.limit},
        "space": [_layer(space, index) for index in range(len(space.layers))],
        "training": {**asdict(settings.schedule), "rounds": settings.rounds, "judged": settings.judged, "pool": settings.pool, "losses": trained.losses},
        "alone": [[round(float(value), 5) for value in row] for row in trained.sensitivity.alone],
        "policy": {"open": _whole(trained.policy.open), "visits": _whole(trained.policy.visits)},
        "evolution": asdict(settings.evolution),
        "images": {"trained_with": trained.images[0], "held_out": trained.images[1], "source": search.images.source},
        "original": _score(result.original),
        "chosen": describe_subnet(space, result.chosen),
        "baselines": {name: describe_subnet(space, each) for name, each in result.baselines.items()},
        "front": [_short(each) for each in front(result.subnets, aim)],
        "population": [_short(each) for each in result.subnets],
    }  # fmt: skip


def _whole(table: Tensor) -> list[list[int]]:
    return [[int(value) for value in row] for row in table]


def _layer(space: Space, index: int) -> dict[str, Any]:
    layer = space.layers[index]
    levels = [str(level) for level in layer.levels]
    return {"path": layer.path, "role": layer.role, "weight": layer.weight, "n": layer.n, "k": layer.k, "macs": layer.macs, "levels": levels}  # fmt: skip


def _score(score: HeldOutScore) -> dict[str, float]:
    return {"held_out_accuracy": round(score.accuracy, 3), "held_out_divergence": round(score.divergence, 5)}


def describe_subnet(space: Space, subnet: Subnet) -> dict[str, Any]:
    """A choice with its levels by layer."""
    levels = {layer.path: str(level) for layer, level in zip(space.layers, space.patterns(subnet.choice), strict=True)}
    return {"cost": subnet.cost, **_score(subnet.score), "levels": levels}


def _short(subnet: Subnet) -> dict[str, Any]:
    return {"choice": "".join(map(str, subnet.choice)), "cost": subnet.cost, **_score(subnet.score), "generation": subnet.generation}  # fmt: skip


def mask_steps(space: Space, choice: Choice) -> list[dict[str, Any]]:
    """The options of one `nm-mask` for each level that is not dense: the sparsest first."""
    patterns = space.patterns(choice)
    levels = sorted({each for each in patterns if each.n < each.m}, key=lambda each: (each.kept, each.m))
    return [
        {"n": level.n, "m": level.m, "only": [layer.path for layer, own in zip(space.layers, patterns, strict=True) if own == level]}
        for level in levels
    ]  # fmt: skip
