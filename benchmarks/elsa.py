"""An N:M level for each linear by ELSA, beside ERK, uniform N:M and choices at random, on images that took no part.

One JSON object on standard output, the table on standard error. Each choice has the weights of the supernet that was trained for the budget; those of the
model as it came, with nothing trained; and those that come of training it alone, from the model as it came, the same for all. Differences are
paired, image by image, with one standard error.

    python benchmarks/elsa.py --budget 2.1x --train-data T --evaluate-data E --model M --weights W

Without arguments it takes the CIFAR-10 ViT of the data folder, where that is at hand, and the FLOPs of the next ERK under uniform 2:4. With
`--keep FOLDER` a run that was stopped goes on there.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitgraph import capture_model, find_sites, get_target, load_model, open_images
from vitgraph.images.image_set import ImageSet
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import Packing
from vitgraph.passes.prepared import prepare
from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.searching.elsa import Elsa, ElsaSearch, Trained, key_of
from vitgraph.searching.evolution import Evolution, into_window
from vitgraph.searching.levels import Choice, LevelCost, Space, find_space, flops, read_budget, uniform
from vitgraph.searching.supernet import Frozen, Supernet
from vitgraph.training.distill import Distiller, Schedule, seeded
from vitgraph.training.held_out import Logits, check_apart, split
from vitgraph.training.processes import Processes

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("VITGRAPH_DATA", HERE.parent.parent / "shared" / "data"))
CIFAR = {
    "img_size": 32,
    "patch_size": 4,
    "embed_dim": 128,
    "depth": 4,
    "num_heads": 4,
    "mlp_ratio": 2,
    "num_classes": 10,
}
EIGHTHS = "uniform N:8"
RANDOM = 5
"""So many choices at random, whose mean is compared."""
PIXELS = ("32", "0.4914,0.4822,0.4465", "0.2470,0.2435,0.2616", "32x32", "none", None)


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """Train, search, and run all that is compared on the evaluation images."""
    start = time.perf_counter()
    own = given.model is None
    model = load_model(
        given.model or "vit_tiny_patch16_224",
        weights=given.weights,
        model_args=CIFAR if own else None,
        preprocessing=PreprocessingOptions.parse(*PIXELS) if own else None,
    )
    program = prepare(capture_model(model))
    space, _ = find_space(program, get_target(given.target))
    cost = flops(program, space)
    images = open_images(given.train_data, model.preprocessing, limit=given.train_images)
    evaluation = open_images(given.evaluate_data, model.preprocessing)
    check_apart(images, evaluation)
    settings = Elsa(
        Schedule(epochs=given.epochs, learning_rate=given.learning_rate, seed=given.seed),
        Evolution(given.population, given.generations, aim=given.aim, seed=given.seed),
        held_out=given.held_out,
        rounds=given.rounds,
        judged=given.judged,
    )
    budget = read_budget(given.budget, space, cost)
    checkpoint = Checkpoint.of(given.keep, program, key_of(settings, budget, space), images)
    search = ElsaSearch(model.module, space, cost, budget, images, nm_keep, settings, checkpoint, Told())
    trained = search.train()
    seconds = {"training": round(time.perf_counter() - start, 1)}
    result = search.choose(trained)
    seconds["both"] = round(time.perf_counter() - start, 1)
    on = Evaluation(evaluation, trained.original)
    eighths = in_eighths(space)
    even = None if eighths is None else Rival(eighths, flops(program, eighths)).uniform(budget.limit)
    named = {
        "ELSA": Rival(space, cost, [result.chosen.choice]),
        "ERK": Rival(space, cost, [result.baselines["ERK"].choice]),
        "uniform": Rival(space, cost, [result.baselines["uniform"].choice]),
        **({} if even is None else {EIGHTHS: even}),
        f"{RANDOM} at random": Rival(space, cost, at_random(space, cost, budget.limit, given.seed)),
    }
    rows = list[dict[str, Any]]()

    def add(weights: str, outcomes: dict[str, Outcome]) -> None:
        for name, outcome in outcomes.items():
            row = {
                "weights": weights,
                "name": name,
                **named[name].row(),
                **outcome.row(outcomes["ELSA"]),
            }
            rows.append(row)
            print(show(row), file=sys.stderr, flush=True)

    for weights, module in (("supernet", trained.supernet.module), ("as it came", trained.original)):
        add(weights, {name: on.mean([on.of(each) for each in rival.models(module)]) for name, rival in named.items()})
    for count in given.alone:
        some = {name: rival for name, rival in named.items() if name in ("ELSA", "ERK", EIGHTHS)}
        add(
            f"alone, {count}", {name: on.of(trained_alone(search, trained, each, count)) for name, each in some.items()}
        )
    return {
        "model": model.name if not own else "vit_cifar10_p4_d128_l4_h4",
        "linears": len(find_sites(program).linears),
        "target": given.target,
        "budget": given.budget,
        "seed": given.seed,
        "trained_with": trained.images[0],
        "held_out": trained.images[1],
        "evaluation_images": len(evaluation),
        "threads": torch.get_num_threads(),
        "as_it_came": on.of(trained.original).row(None),
        "supernet_dense": on.of(Rival(space, cost, [space.dense]).models(trained.supernet.module)[0]).row(None),
        "losses": [round(each, 4) for each in trained.losses],
        "open": ["".join(str(int(each)) for each in row) for row in trained.policy.open],
        "seconds": seconds,
        "rows": rows,
    }


def at_random(space: Space, cost: LevelCost, limit: float, seed: int) -> list[Choice]:
    """Choices that cost the budget, to a hundredth: what it is worth to choose, uniform N:M being had at few costs."""
    generator = seeded(seed, "compared at random")
    drawn = [
        tuple(int(torch.randint(len(layer.levels), (1,), generator=generator)) for layer in space.layers)
        for _ in range(RANDOM)
    ]
    return [into_window(space, cost, limit, 0.01, each, seed) for each in drawn]


@dataclass(frozen=True)
class Rival:
    """Choices that go under one name, and the levels that they choose from."""

    space: Space
    cost: LevelCost
    choices: Sequence[Choice] = ()

    def uniform(self, limit: float) -> Rival:
        """One level for all, the densest within the limit."""
        return replace(self, choices=[uniform(self.space, self.cost, limit)])

    def models(self, module: nn.Module) -> list[Logits]:
        """Each choice with the weights of `module`."""
        frozen = Frozen(Supernet(module, self.space, nm_keep).eval())
        return [partial(frozen.logits, choice=choice) for choice in self.choices]

    def row(self) -> dict[str, Any]:
        """Which choices, and what they cost in the mean."""
        return {
            "choices": ["".join(map(str, each)) for each in self.choices],
            "levels": sorted({str(each) for choice in self.choices for each in self.space.patterns(choice)}),
            "mflops": round(sum(map(self.cost.of, self.choices)) / len(self.choices) / 1e6, 3),
        }


def in_eighths(space: Space) -> Space | None:
    """The same layers with N of each 8: levels that the target lacks, and one of them fits many a budget exactly.

    None where a layer's inputs are no whole groups of eight.
    """
    if any(layer.k % 8 for layer in space.layers):
        return None
    levels = tuple(Packing(n, 8) for n in range(1, 9))
    return Space(tuple(replace(layer, levels=levels) for layer in space.layers))


def trained_alone(search: ElsaSearch, trained: Trained, rival: Rival, count: int) -> Logits:
    """The model as it came, trained with the first choice alone on `count` of the training images."""
    training, _ = split(search.images, search.settings.held_out, search.settings.schedule.seed)
    student = Supernet(copy.deepcopy(trained.original).requires_grad_(True), rival.space, search.keep)
    schedule = replace(search.settings.schedule, epochs=1)
    distiller = Distiller(student, trained.original, training.take(range(count)), schedule, Processes())
    distiller.train(0, distiller.steps, lambda step: (rival.choices[0],), lambda step: None)
    return rival.models(student.module)[0]


class Told:
    """Progress on standard error, a line every half minute."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell it, if it is time."""
        if time.monotonic() - self.last > 30:
            self.last = time.monotonic()
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Outcome:
    """What a model comes to on each evaluation image: `right`, 1 or 0, and `divergence` from the model as it came; both `[images]`."""

    right: Tensor
    divergence: Tensor

    def row(self, elsa: Outcome | None) -> dict[str, float]:
        """Means, and how many points and nats ELSA is ahead, paired, each with one standard error."""
        found = {
            "top1": round(100 * float(self.right.mean()), 2),
            "divergence": round(float(self.divergence.mean()), 4),
        }
        if elsa is None or elsa is self:
            return found
        points, nats = 100 * (elsa.right - self.right), self.divergence - elsa.divergence
        for name, gap, digits in (("ahead", points, 2), ("nearer", nats, 4)):
            found[name] = round(float(gap.mean()), digits)
            found[f"{name}_standard_error"] = round(float(gap.std()) / len(gap) ** 0.5, digits)
        return found


class Evaluation:
    """The images that took no part, with the answers of the model as it came."""

    def __init__(self, images: ImageSet, original: Logits) -> None:
        batches = [(pixels, torch.as_tensor(labels)) for pixels, labels in images.batches(250)]
        self.pixels, self.labels = [each for each, _ in batches], torch.cat([each for _, each in batches])
        self.wanted = self._answers(original)

    def of(self, model: Logits) -> Outcome:
        """Run them all."""
        found = self._answers(model)
        divergence = (self.wanted.exp() * (self.wanted - found)).sum(-1)
        return Outcome((found.argmax(-1) == self.labels).double(), divergence)

    def mean(self, outcomes: list[Outcome]) -> Outcome:
        """Of several models, image by image."""
        right, divergence = ([getattr(each, name) for each in outcomes] for name in ("right", "divergence"))
        return Outcome(torch.stack(right).mean(0), torch.stack(divergence).mean(0))

    @torch.no_grad()
    def _answers(self, model: Logits) -> Tensor:
        return functional.log_softmax(torch.cat([model(each) for each in self.pixels]).double(), -1)


def show(row: dict[str, Any]) -> str:
    """One line."""
    ahead = f"ELSA ahead by {row['ahead']:5.2f} ± {row['ahead_standard_error']:.2f}" if "ahead" in row else ""
    return f"{row['weights']:<14}{row['name']:<12} {row['mflops']:7.3f} M  top-1 {row['top1']:5.2f}  divergence {row['divergence']:.4f}  {ahead}"


def main() -> None:
    """Measure, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="a timm name; the CIFAR-10 ViT of the data folder unless given")
    parser.add_argument("--weights", default=str(DATA / "weights" / "vit_cifar10_p4_d128_l4_h4.safetensors"))
    parser.add_argument("--train-data", default=str(DATA / "cifar10" / "train50000.zip"))
    parser.add_argument("--train-images", type=int, default=30000)
    parser.add_argument("--evaluate-data", default=str(DATA / "cifar10" / "test5000.zip"))
    parser.add_argument("--target", default="vegeta")
    parser.add_argument("--budget", default="18.631M", help="of an ERK choice under uniform 2:4, which has 21.826M")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--judged", type=int, default=6)
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--aim", choices=("accuracy", "divergence"), default="divergence")
    parser.add_argument(
        "--alone",
        type=int,
        nargs="*",
        default=[3200, 12800],
        help="images to train each choice alone with, from the model as it came",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="a folder to go on from")
    given = parser.parse_args()
    files = [path for path in (given.weights, given.train_data, given.evaluate_data) if ":" not in path]
    absent = [path for path in files if path != "pretrained" and not Path(path).exists()]
    print(json.dumps({"rows": None, "why": f"{', '.join(absent)}: not there"} if absent else compare(given), indent=2))


if __name__ == "__main__":
    main()
