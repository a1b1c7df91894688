"""`vitgraph search --method lpvit`: what each linear loses under one or more budgets, by `block-prune`'s curves and equal slopes.

The recipe's own `block-prune` says what goes (tiles or units, of which size) and by which score. What stands ahead of it is run once, curves
are taken once, and every budget is one more allocation. With labelled images each is measured, beside tiles (or units) by
magnitude under the same budget: by the same slopes, and evenly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from vitgraph.backends.eager import Eager
from vitgraph.compile.accuracy import Predictions, predict
from vitgraph.compile.recipe import Recipe
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.images.image_set import ImageSet, open_images
from vitgraph.ir.program import Program
from vitgraph.outputs import unfinished
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes.pruning.block_cost import Metric, find_meter
from vitgraph.passes.pruning.block_prune import BlockPrune
from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.search.budget import Limit, read_limit, show_cost
from vitgraph.search.runner import Asked, Found, Opened, next_command
from vitgraph.tools.command import group, table
from vitgraph.tools.pass_options import CalibrationSettings

if TYPE_CHECKING:
    from vitgraph.tools.progress import Progress

_BY: Mapping[str, Metric] = {"FLOPs": "flops", "ms": "latency", "mJ": "energy"}


@dataclass(frozen=True)
class LpvitMethod:
    """Whole tiles, or hidden units and heads, of each linear."""

    calibration: CalibrationSettings
    name: ClassVar[str] = "lpvit"
    recipe: ClassVar[str] = "lpvit"

    @property
    def writes(self) -> bool:
        """There is one process."""
        return True

    def check(self, asked: Asked) -> None:
        """Budgets that can be read, each once."""
        for text in asked.budgets:
            read_limit(text)
        if len(set(asked.budgets)) < len(asked.budgets):
            raise InputError(f"--budget {' '.join(asked.budgets)}: one is there twice; name each once")

    def search(self, opened: Opened, progress: Progress) -> Found:
        """Allocate under each budget, and measure where there are labelled images."""
        ahead, step, images = *_split(opened), self._images(opened)
        context = Context(opened.target, calibration=images, progress=progress, scratch=unfinished(opened.asked.out))
        program = Pipeline(ahead).run(capture_model(opened.model, opened.batch), context, [])
        steps = [_under(step, read_limit(text), program, context) for text in opened.asked.budgets]
        for each in steps:  # out of reach is out of reach by whatever curves; magnitude's take no images
            _pruned(replace(each, score="magnitude", refit=False), program, Context(opened.target))
        bench = _Bench(opened, program, context)
        points = [self._point(*each, opened, bench) for each in zip(opened.asked.budgets, steps, strict=True)]
        recipes = {point["recipe"]: _budgeted(opened, each, point) for point, each in zip(points, steps, strict=True)}
        data = {
            "calibration": images and {"images": len(images), "source": images.source, "data_sha256": images.sha256},
            "prunes": {
                name: getattr(step, name) for name in ("granularity", "rows", "cols", "multiple", "score", "refit")
            },
            "original": {"top1": bench.top1},
            "points": points,
        }
        return Found(data, {name: recipe.to_yaml().encode() for name, recipe in recipes.items()})

    def _images(self, opened: Opened) -> ImageSet | None:
        data, count = self.calibration.calibration_data, self.calibration.calibration_images
        if data is None:
            return None  # the pass says so where it needs some
        return open_images(data, opened.model.preprocessing, limit=count, seed=opened.asked.settings.seed)

    def _point(self, text: str, step: BlockPrune, opened: Opened, bench: _Bench) -> dict[str, Any]:
        """What comes out under one budget."""
        asked, limit = opened.asked, read_limit(text)
        dense = find_meter(bench.program, bench.context, step.metric, step.kind, step.batch).total()
        magnitude = replace(step, score="magnitude", power=0.0)
        baselines = {"magnitude": magnitude, "magnitude, uniform": replace(magnitude, uniform=True)}
        recipe = "recipe.yaml" if len(asked.budgets) == 1 else f"recipe-{text}.yaml"
        own = self.calibration
        return {
            "budget": {"text": text, "unit": limit.unit, "limit": limit.of(dense), "dense": dense, "share": step.budget},
            "chosen": bench.row(text, step, dense),
            "baselines": {
                name: bench.row(f"{text}, {name}", each, dense)
                for name, each in baselines.items()
                if each != step
            },
            "recipe": recipe,
            "next": next_command(
                asked,
                recipe,
                weights=asked.settings.weights,
                calibration_data=own.calibration_data,
                calibration_images=own.calibration_images if own.calibration_data else None,
            ),
        }  # fmt: skip

    def draw(self, data: Mapping[str, Any], output: Path) -> Any:
        """Each budget with what it is compared with, and what to type next."""
        rows = list[list[str]]()
        for point in data["points"]:
            budget = point["budget"]
            for name, each in (("chosen", point["chosen"]), *point["baselines"].items()):
                left = f"{show_cost(each['cost'], budget['unit'])} ({each['left']:.1%})"
                rows.append([budget["text"], name, left, _percent(each["top1"]), _percent(each["agreement"])])
        rows.append(["", "as it came", "", _percent(data["original"]["top1"]), ""])
        title = f"{data['model']['name']} for {data['target']}: {data['prunes']['of']} by {data['prunes']['score']}"
        drawn = table(["budget", "", "left", "top-1", "agreement"], rows, title=title)
        commands = "\n".join(f"{point['next']} -o OUT" for point in data["points"])
        return group(drawn, f"written to {output}; next:\n{commands}")


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f} %"


def _split(opened: Opened) -> tuple[tuple[Any, ...], BlockPrune]:
    """What the recipe does ahead of its one `block-prune`, and that, for the sites that were asked for."""
    steps = opened.recipe.pipeline.passes
    places = [place for place, step in enumerate(steps) if isinstance(step, BlockPrune)]
    if len(places) != 1:
        raise InputError(
            f"recipe {opened.recipe.name}: has {len(places)} block-prune, and --method lpvit sets the budget of one;"
            " take lpvit, lpvit-int8 or a recipe of your own"
        )
    step = steps[places[0]]
    assert isinstance(step, BlockPrune)
    sites = opened.asked.sites
    step = replace(step, batch=opened.batch.best, kind="int8" if opened.quantizes else step.kind)
    return steps[: places[0]], replace(step, only=tuple(sites.only) or step.only, skip=tuple(sites.skip) or step.skip)


def _under(step: BlockPrune, limit: Limit, program: Program, context: Context) -> BlockPrune:
    """The pass with this limit, as the share of the program's cost that it knows."""
    step = replace(step, metric=_BY[limit.unit], batch=step.batch if limit.unit != "FLOPs" else 1)
    dense = find_meter(program, context, step.metric, step.kind, step.batch).total()
    share = floor(min(1.0, limit.of(dense) / dense) * 1e6) / 1e6  # down: a limit is not to be passed
    if share <= 0:
        raise InputError(
            f"--budget {limit.text}: nothing would be left of {show_cost(dense, limit.unit)}; ask for more"
        )
    return replace(step, budget=share)


def _pruned(step: BlockPrune, program: Program, context: Context) -> Program:
    """A copy of the program, pruned."""
    copy = program.copy()
    step.prune(copy, step.curves(program, context), context)
    copy.clean()
    return copy


class _Bench:
    """The program as it stands ahead of `block-prune`, and the images that show what becomes of it."""

    def __init__(self, opened: Opened, program: Program, context: Context) -> None:
        self.program, self.context, self.images = program, context, opened.evaluation
        self.batch = None if opened.batch.dynamic else opened.batch.best
        self.reference = self._predict("as it came", program)

    @property
    def top1(self) -> float | None:
        """Of the program as it stands."""
        return _top1(self.reference)

    def row(self, what: str, step: BlockPrune, dense: float) -> dict[str, Any]:
        """What a pass makes of it; kept weights are refitted only where somebody looks."""
        own = replace(self.context, refusals=[], found=[], spent=[])
        pruned = _pruned(replace(step, refit=step.refit and self.images is not None), self.program, own)
        model, *sites = own.found
        found = self._predict(what, pruned)
        return {
            "left": model["left"],
            "cost": model["left"] * dense,
            "top1": _top1(found),
            "agreement": found and self.reference and round(self.reference.agreement(found), 3),
            "sites": {each.pop("pruned"): each for each in sites},
            "refused": [{"site": each.site, "why": each.why} for each in own.refusals],
        }

    def _predict(self, what: str, program: Program) -> Predictions | None:
        """Classes of all images; kept, so that a search that is started again need not look at them again."""
        if self.images is None:
            return None
        checkpoint = Checkpoint.of(self.context.scratch, program, "classes", self.images)
        kept = checkpoint.read(0)
        if kept is None:
            runner = Eager().load(program)
            found = predict(runner, self.images, self.batch, self.context.progress, f"evaluation: {what}")
            kept = {"classes": found.classes}
            checkpoint.write(0, kept)
        labels = self.images.labels
        return Predictions(kept["classes"], None if labels is None else torch.tensor(labels))


def _top1(found: Predictions | None) -> float | None:
    return None if found is None or found.top1 is None else round(found.top1, 3)


def _budgeted(opened: Opened, step: BlockPrune, point: Mapping[str, Any]) -> Recipe:
    """The recipe with `block-prune` as it was searched."""
    recipe, text = opened.recipe, point["budget"]["text"]
    passes = tuple(step if isinstance(each, BlockPrune) else each for each in recipe.pipeline.passes)
    return Recipe(
        f"{recipe.name}-{text}", f"{recipe.description}; budget {text} on {opened.target.name}", Pipeline(passes)
    )
