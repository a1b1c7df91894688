"""An N:M level for each linear by ELSA, beside uniform N:M and ERK at equal FLOPs: one supernet, several budgets, images that took no part.

One JSON object on standard output, the table on standard error. All rows of a budget are sub-networks of the same trained supernet with the
weights it has: the same training for all, none trained further. Differences are paired, image by image, with one standard error.

    python benchmarks/elsa.py --budgets 2.1x --train-data T --evaluate-data E --model M --weights W

Without arguments it takes the CIFAR-10 ViT of the data folder, where that is at hand, and the FLOPs of uniform 2:4 and of the next ERK under it. With
`--keep FOLDER` a run that was stopped goes on there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitgraph import capture_model, find_sites, get_target, load_model, open_images
from vitgraph.checkpoint import Checkpoint
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.passes._nm import nm_keep
from vitgraph.search.elsa import Elsa, Search, Trained
from vitgraph.search.evolution import Evolution, Subnet, best
from vitgraph.search.levels import Choice, find_space, flops, read_budget
from vitgraph.search.supernet import Frozen
from vitgraph.tools.graph_cost import prepare
from vitgraph.training.distill import Schedule
from vitgraph.training.held_out import check_apart

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
PIXELS = ("32", "0.4914,0.4822,0.4465", "0.2470,0.2435,0.2616", "32x32", "none", None)


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """Train once, search for each budget, and run all that is compared on the evaluation images."""
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
    training = f"{settings.schedule} {settings.held_out} {settings.rounds} {settings.judged} {space}"
    checkpoint = Checkpoint.of(given.keep, program, training, images)
    search = Search(model.module, space, images, nm_keep, settings, checkpoint, Told())
    trained = search.train()
    seconds = {"training": round(time.perf_counter() - start, 1)}
    measure = Measured(trained, [(pixels, torch.as_tensor(labels)) for pixels, labels in evaluation.batches(250)])
    rows = list[dict[str, Any]]()
    for text in given.budgets:
        start = time.perf_counter()
        budget = read_budget(text, space, cost)
        own_key = f"{checkpoint.key}-{text}-{given.population}x{given.generations}-{given.aim}"
        search.checkpoint = Checkpoint(given.keep, own_key)
        result = search.choose(trained, cost, budget)
        seconds[text] = round(time.perf_counter() - start, 1)
        erk = result.baselines["ERK"]
        named = {"ELSA": result.chosen, **result.baselines}
        if erk.cost < budget.limit * (1 - settings.evolution.window):
            named["ELSA at ERK's FLOPs"] = best(result.subnets, given.aim, erk.cost)
        rows += [measure.row(text, name, each, result.chosen.choice) for name, each in named.items() if name != "dense"]
        for row in rows[-len(named) + 1 :]:
            print(show(row), file=sys.stderr, flush=True)
    return {
        "model": model.name if not own else "vit_cifar10_p4_d128_l4_h4",
        "linears": len(find_sites(program).linears),
        "target": given.target,
        "trained_with": trained.images[0],
        "held_out": trained.images[1],
        "evaluation_images": len(evaluation),
        "threads": torch.get_num_threads(),
        "top1_as_it_came": measure.percent(None),
        "top1_supernet_dense": measure.percent(space.dense),
        "losses": [round(each, 4) for each in trained.losses],
        "open": ["".join(str(int(each)) for each in row) for row in trained.policy.open],
        "seconds": seconds,
        "rows": rows,
    }


class Told:
    """Progress on standard error, a line every half minute."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell it, if it is time."""
        if time.monotonic() - self.last > 30:
            self.last = time.monotonic()
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)


class Measured:
    """Which evaluation images each sub-network gets right, each run once."""

    def __init__(self, trained: Trained, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.original, self.frozen, self.batches = trained.original, Frozen(trained.supernet), batches
        self.known = dict[Choice | None, Tensor]()

    @torch.no_grad()
    def right(self, choice: Choice | None) -> Tensor:
        """1 for each image that is right, `[images]`; None is the model as it came."""
        if choice not in self.known:
            run = self.original if choice is None else lambda pixels: self.frozen.logits(pixels, choice)
            self.known[choice] = torch.cat([(run(x).argmax(-1) == y).double() for x, y in self.batches])
        return self.known[choice]

    def percent(self, choice: Choice | None) -> float:
        """Top-1."""
        return round(100 * float(self.right(choice).mean()), 2)

    def row(self, budget: str, name: str, subnet: Subnet, chosen: Choice) -> dict[str, Any]:
        """One line of the table; `behind` is how many points it is under what ELSA chose."""
        gap = self.right(chosen) - self.right(subnet.choice)
        return {
            "budget": budget,
            "name": name,
            "choice": "".join(map(str, subnet.choice)),
            "mflops": round(subnet.cost / 1e6, 3),
            "held_out_accuracy": round(subnet.score.accuracy, 2),
            "held_out_divergence": round(subnet.score.divergence, 4),
            "top1": self.percent(subnet.choice),
            "behind": round(100 * float(gap.mean()), 2),
            "behind_standard_error": round(100 * float(gap.std()) / len(gap) ** 0.5, 2),
        }


def show(row: dict[str, Any]) -> str:
    """One line."""
    behind = f"{row['behind']:5.2f} ± {row['behind_standard_error']:.2f} under ELSA" if row["name"] != "ELSA" else ""
    return f"{row['budget']:<9}{row['name']:<20} {row['mflops']:7.3f} M  held out {row['held_out_accuracy']:5.2f}  top-1 {row['top1']:5.2f}  {behind}"


def main() -> None:
    """Measure, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="a timm name; the CIFAR-10 ViT of the data folder unless given")
    parser.add_argument("--weights", default=str(DATA / "weights" / "vit_cifar10_p4_d128_l4_h4.safetensors"))
    parser.add_argument("--train-data", default=str(DATA / "cifar10" / "train50000.zip"))
    parser.add_argument("--train-images", type=int, default=None, help="as many as there are")
    parser.add_argument("--evaluate-data", default=str(DATA / "cifar10" / "test5000.zip"))
    parser.add_argument("--target", default="vegeta")
    parser.add_argument("--budgets", nargs="+", default=["18.631M", "21.826M"], help="of ERK, and of uniform 2:4")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--held-out", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--judged", type=int, default=10)
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--generations", type=int, default=6)
    parser.add_argument("--aim", choices=("accuracy", "divergence"), default="divergence")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="a folder to go on from")
    given = parser.parse_args()
    files = [path for path in (given.weights, given.train_data, given.evaluate_data) if ":" not in path]
    absent = [path for path in files if path != "pretrained" and not Path(path).exists()]
    print(json.dumps({"rows": None, "why": f"{', '.join(absent)}: not there"} if absent else compare(given), indent=2))


if __name__ == "__main__":
    main()
