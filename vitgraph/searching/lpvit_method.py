"""LPViT as a method: what each linear loses under one or more budgets, by `block-prune`'s curves and equal slopes.

The recipe's own `block-prune` says what goes (tiles or units, of which size) and by which score. What stands ahead of it is run once, curves
are taken once, and every budget is one more allocation. With labelled images each is measured, beside tiles (or units) by
magnitude under the same budget: by the same slopes, and evenly.

Like `vitgraph/searching/runner.py`, this file may look upward: it works with `block-prune` itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor
from typing import Any, ClassVar, Literal

import torch

from vitgraph.backends.eager import Eager
from vitgraph.compile.accuracy import Predictions, predict
from vitgraph.compile.recipe import Recipe
from vitgraph.errors import InputError
from vitgraph.frontend.open_model import program_of
from vitgraph.ir.model_output import gives_features
from vitgraph.ir.program import Program
from vitgraph.outputs.workspace import parts_of
from vitgraph.pass_manager.findings import BudgetFinding, PrunedFinding
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes.pruning.block_cost import Metric, find_meter
from vitgraph.passes.pruning.block_prune import BlockPrune
from vitgraph.progress import Progress
from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.searching.budget import Limit, read_limit, show_cost
from vitgraph.searching.method import Found, OpenedSearch
from vitgraph.searching.next_command import next_command
from vitgraph.searching.request import SearchRequest

_BY: Mapping[str, Metric] = {"FLOPs": "flops", "ms": "latency", "mJ": "energy"}


@dataclass(frozen=True)
class LpvitMethod:
    """Whole tiles, or hidden units and heads, of each linear."""

    request: SearchRequest
    name: ClassVar[str] = "lpvit"
    recipe: ClassVar[str] = "lpvit"
    looks_at: ClassVar[Literal["training", "calibration"]] = "calibration"
    images: ClassVar[int | None] = 64

    @property
    def writes(self) -> bool:
        """There is one process."""
        return True

    def check(self) -> None:
        """Budgets that can be read, each once, and no settings of training."""
        budgets = self.request.budgets
        for text in budgets:
            read_limit(text)
        if len(set(budgets)) < len(budgets):
            raise InputError(f"--budget {' '.join(budgets)}: one is there twice; name each once")
        if self.request.elsa is not None or self.request.accelerate:
            raise InputError("--method lpvit trains nothing; leave out the settings of elsa, and --accelerate")

    def search(self, opened: OpenedSearch, progress: Progress) -> Found:
        """Allocate under each budget, and measure where there are labelled images."""
        request, inputs = self.request, opened.inputs
        (ahead, step), images = _split(opened), inputs.calibration
        Pipeline((*ahead, step)).check(request.target, images)
        captured = program_of(inputs.model, inputs.batch)
        if inputs.evaluation is not None and gives_features(captured):
            raise InputError(
                f"{inputs.model.name}: gives features, and --method lpvit measures top-1; leave --evaluate-data out, and let "
                "`vitgraph compile` measure what was found"
            )
        scratch = parts_of(request.output.out)
        context = Context(request.target, calibration=images, progress=progress, scratch=scratch)
        program = Pipeline(ahead).run(captured, context, [])
        steps = [_under(step, read_limit(text), program, context) for text in request.budgets]
        for each in steps:  # out of reach is out of reach by whatever curves; magnitude's take no images
            _pruned(replace(each, score="magnitude", refit=False), program, Context(request.target))
        bench = _Bench(opened, program, context)
        points = [self._point(*each, bench) for each in zip(request.budgets, steps, strict=True)]
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

    def _point(self, text: str, step: BlockPrune, bench: _Bench) -> dict[str, Any]:
        """What comes out under one budget."""
        request, limit = self.request, read_limit(text)
        dense = find_meter(bench.program, bench.context, step.metric, step.kind, step.batch).total()
        magnitude = replace(step, score="magnitude", power=0.0)
        baselines = {"magnitude": magnitude, "magnitude, uniform": replace(magnitude, uniform=True)}
        recipe = "recipe.yaml" if len(request.budgets) == 1 else f"recipe-{text}.yaml"
        own = request.data
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
                request,
                recipe,
                weights=request.model.weights,
                calibration_data=own.calibration,
                calibration_images=own.calibration_images if own.calibration is not None else None,
            ),
        }  # fmt: skip


def _split(opened: OpenedSearch) -> tuple[tuple[Any, ...], BlockPrune]:
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
    request = opened.request
    step = replace(step, batch=opened.inputs.batch.best, kind="int8" if opened.quantizes else step.kind)
    return steps[: places[0]], replace(step, only=request.only or step.only, skip=request.skip or step.skip)


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

    def __init__(self, opened: OpenedSearch, program: Program, context: Context) -> None:
        self.program, self.context, self.images = program, context, opened.inputs.evaluation
        self.batch = None if opened.inputs.batch.dynamic else opened.inputs.batch.best
        self.reference = self._predict("as it came", program)

    @property
    def top1(self) -> float | None:
        """Of the program as it stands."""
        return _top1(self.reference)

    def row(self, what: str, step: BlockPrune, dense: float) -> dict[str, Any]:
        """What a pass makes of it; kept weights are refitted only where somebody looks."""
        own = replace(self.context, refusals=[], findings=[], spent=[])
        pruned = _pruned(replace(step, refit=step.refit and self.images is not None), self.program, own)
        (model,) = (each for each in own.findings if isinstance(each, BudgetFinding))
        sites = [each.to_json() for each in own.findings if isinstance(each, PrunedFinding)]
        found = self._predict(what, pruned)
        return {
            "left": model.left,
            "cost": model.left * dense,
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


def _budgeted(opened: OpenedSearch, step: BlockPrune, point: Mapping[str, Any]) -> Recipe:
    """The recipe with `block-prune` as it was searched."""
    recipe, text = opened.recipe, point["budget"]["text"]
    passes = tuple(step if isinstance(each, BlockPrune) else each for each in recipe.pipeline.passes)
    return Recipe(
        f"{recipe.name}-{text}",
        f"{recipe.description}; budget {text} on {opened.request.target.name}",
        Pipeline(passes),
    )
