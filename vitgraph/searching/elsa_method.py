"""ELSA as a method: from images and a budget to weights and a recipe with a mask for each level; its core is `vitgraph.searching.elsa`.

Like `vitgraph/searching/runner.py`, this file may look upward: masks are passes, which have their place in the order of all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vitgraph.compile.accuracy import predict
from vitgraph.compile.recipe import Recipe
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.models import LoadedModel
from vitgraph.images.image_set import ImageSet
from vitgraph.ir.model_output import gives_features
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.outputs.workspace import parts_of
from vitgraph.pass_manager.pass_contract import Refusal
from vitgraph.pass_manager.pipeline import Pipeline, build_pass
from vitgraph.passes import ORDER, find_pass
from vitgraph.passes.prepared import prepare
from vitgraph.progress import Progress
from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.searching.budget import read_limit
from vitgraph.searching.elsa import Elsa, ElsaSearch, Result, Trained, key_of
from vitgraph.searching.elsa_report import describe, mask_steps
from vitgraph.searching.levels import Choice, Space, find_space, flops, milliseconds, read_budget
from vitgraph.searching.method import Found, OpenedSearch
from vitgraph.searching.next_command import next_command
from vitgraph.searching.request import SearchRequest
from vitgraph.searching.supernet import Frozen
from vitgraph.training.held_out import check_apart
from vitgraph.training.processes import Processes


@dataclass(frozen=True)
class ElsaMethod:
    """An N:M level for each linear."""

    request: SearchRequest
    name: ClassVar[str] = "elsa"
    recipe: ClassVar[str] = "fp16"
    looks_at: ClassVar[Literal["training", "calibration"]] = "training"
    images: ClassVar[int | None] = None

    @cached_property
    def processes(self) -> Processes:
        """This one, or those of `accelerate launch`."""
        return Processes.accelerated() if self.request.accelerate else Processes()

    @property
    def writes(self) -> bool:
        """The first process does."""
        return self.processes.rank == 0

    @property
    def settings(self) -> Elsa:
        """As asked for, with the request's seed."""
        own, seed = self.request.elsa or Elsa(), self.request.model.seed
        return replace(own, schedule=replace(own.schedule, seed=seed), evolution=replace(own.evolution, seed=seed))

    def check(self) -> None:
        """One budget, of a unit that levels are counted in, and images to train with."""
        budgets = self.request.budgets
        if len(budgets) != 1:
            raise InputError(f"--budget {' '.join(budgets)}: --method elsa searches for one budget at a time")
        limit = read_limit(budgets[0])
        if limit.unit == "mJ":
            raise InputError(f"--budget {limit.text}: --method elsa counts FLOPs (2.9x, 6.06G) or ms, no energy")
        if self.request.data.training is None:
            raise InputError("--method elsa trains a supernet: name training images with --train-data")

    def search(self, opened: OpenedSearch, progress: Progress) -> Found:
        """Train, choose, and measure what was chosen."""
        model, out = opened.inputs.model, self.request.output.out
        if not isinstance(model, LoadedModel):
            raise InputError(
                f"{model.name}: --method elsa trains the model, and a saved program can't be; name its model"
            )
        job = self._prepare(model, opened, progress)
        trained = job.search.train()
        result = job.search.choose(trained)
        data = {
            "refused": [{"site": each.site, "why": each.why} for each in job.refused],
            "next": next_command(self.request, "recipe.yaml", weights=out / "weights.safetensors"),
            **describe(job.search, trained, result),
        }
        _measure(job.search, opened.inputs.evaluation, trained, result, data, progress)
        text = f"{self.request.target.name}, {job.search.budget.text}"
        recipe = leveled(opened.recipe, job.search.space, result.chosen.choice, text)
        return Found(data, {"weights.safetensors": _weights(model.module), "recipe.yaml": recipe.to_yaml().encode()})

    def _prepare(self, model: LoadedModel, opened: OpenedSearch, progress: Progress) -> _Job:
        """What can be told before it is trained."""
        request = self.request
        program = prepare(capture_model(model))
        if gives_features(program):
            raise InputError(
                f"{model.name}: gives features, and --method elsa trains by the classes that a model gives; search a classifier on "
                "the same encoder, or take --method lpvit"
            )
        names = {name for name, _ in model.module.named_parameters(remove_duplicate=False)}
        space, refused = find_space(program, request.target, request.only, request.skip, names)
        if read_limit(request.budgets[0]).unit == "FLOPs":
            cost = flops(program, space)
        else:
            kind = "int8" if opened.quantizes else "fp16"
            cost = milliseconds(program, space, request.target, opened.inputs.batch.best, kind)
        budget = read_budget(request.budgets[0], space, cost)
        images, settings = _training_images(opened), self.settings
        checkpoint = Checkpoint.of(parts_of(request.output.out), program, key_of(settings, budget, space), images)
        search = ElsaSearch(
            model.module, space, cost, budget, images, nm_keep, settings, checkpoint, progress, self.processes
        )
        return _Job(refused, search)


def _training_images(opened: OpenedSearch) -> ImageSet:
    images, evaluation = opened.inputs.training, opened.inputs.evaluation
    assert images is not None, "`check` asks for some"
    if images.labels is not None:
        images.check_labels(opened.inputs.model.classes or 1_000_000)
    if evaluation is not None:
        check_apart(images, evaluation)
    return images


@dataclass(frozen=True)
class _Job:
    refused: list[Refusal]
    search: ElsaSearch


@dataclass(frozen=True)
class _Runner:
    logits: Callable[[Tensor], Tensor]
    device: torch.device

    @torch.no_grad()
    def run(self, batch: Tensor) -> Tensor:
        return self.logits(batch.to(self.device)).cpu()


def _measure(
    search: ElsaSearch,
    evaluation: ImageSet | None,
    trained: Trained,
    result: Result,
    data: dict[str, Any],
    progress: Progress,
) -> None:
    """Top-1 of what was chosen, and of all that it is compared with, on images that took no part."""
    rows: dict[str, tuple[dict[str, Any], Choice | None]] = {
        "as it came": (data["original"], None),
        "chosen": (data["chosen"], result.chosen.choice),
        **{name: (data["baselines"][name], each.choice) for name, each in result.baselines.items()},
    }
    device, frozen = search.processes.device, Frozen(trained.supernet)
    for name, (row, choice) in rows.items():
        row["top1"] = None
        if evaluation is not None:
            logits = _logits(trained.original if choice is None else frozen, choice)
            found = predict(_Runner(logits, device), evaluation, None, progress, f"evaluation: {name}")
            row["top1"] = None if found.top1 is None else round(found.top1, 3)


def _logits(model: nn.Module | Frozen, choice: Choice | None) -> Callable[[Tensor], Tensor]:
    if isinstance(model, Frozen):
        assert choice is not None
        return lambda pixels: model.logits(pixels, choice)
    return model


def _weights(module: nn.Module) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()})


def leveled(recipe: Recipe, space: Space, choice: Choice, what: str) -> Recipe:
    """The recipe with one `nm-mask` for each level in place of the N:M masks it may have, or may hold."""
    order = list(ORDER)
    place = order.index("nm-mask")
    own = [step for step in recipe.pipeline.passes if step.name not in ("hold-patterns", "nm-mask", "permute-channels")]
    earlier = [index for index, step in enumerate(own) if step.name in order and order.index(step.name) < place]
    at = 1 + max(earlier, default=-1)
    masks = [build_pass("nm-mask", options, find_pass) for options in mask_steps(space, choice)]
    text = f"{recipe.description}; N:M level by level, chosen for {what}"
    return Recipe(f"{recipe.name}-elsa", text, Pipeline((*own[:at], *masks, *own[at:])))
