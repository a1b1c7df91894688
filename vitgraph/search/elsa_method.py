"""`vitgraph search --method elsa`: a supernet, then evolution; the core is `vitgraph.search`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from vitgraph.compile.accuracy import predict
from vitgraph.compile.recipe import Recipe
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.images.image_set import ImageSet, open_images
from vitgraph.outputs import unfinished
from vitgraph.pass_manager.pass_contract import Refusal
from vitgraph.pass_manager.pipeline import Pipeline, build_pass
from vitgraph.passes import ORDER, find_pass
from vitgraph.passes.prepared import prepare
from vitgraph.passes.sparsity.nm_selection import nm_keep
from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.search.budget import read_limit, show_cost
from vitgraph.search.elsa import ElsaSearch, Result, Trained, key_of
from vitgraph.search.elsa_report import describe, mask_steps
from vitgraph.search.levels import Choice, Space, find_space, flops, milliseconds, read_budget
from vitgraph.search.runner import Asked, Found, Opened, next_command
from vitgraph.search.supernet import Frozen
from vitgraph.tools.command import group, table
from vitgraph.tools.search_options import ElsaSettings
from vitgraph.training.held_out import check_apart
from vitgraph.training.processes import Processes

if TYPE_CHECKING:
    from vitgraph.tools.progress import Progress


@dataclass(frozen=True)
class ElsaMethod:
    """An N:M level for each linear."""

    settings: ElsaSettings
    name: ClassVar[str] = "elsa"
    recipe: ClassVar[str] = "fp16"

    @cached_property
    def processes(self) -> Processes:
        """This one, or those of `accelerate launch`."""
        return Processes.accelerated() if self.settings.accelerate else Processes()

    @property
    def writes(self) -> bool:
        """The first process does."""
        return self.processes.rank == 0

    def check(self, asked: Asked) -> None:
        """One budget, of a unit that levels are counted in, and images to train with."""
        if len(asked.budgets) != 1:
            raise InputError(f"--budget {' '.join(asked.budgets)}: --method elsa searches for one budget at a time")
        (text,) = asked.budgets
        limit = read_limit(text)
        if limit.unit == "mJ":
            raise InputError(f"--budget {limit.text}: --method elsa counts FLOPs (2.9x, 6.06G) or ms, no energy")
        if self.settings.train_data is None:
            raise InputError("--method elsa trains a supernet: name training images with --train-data")

    def search(self, opened: Opened, progress: Progress) -> Found:
        """Train, choose, and measure what was chosen."""
        job = self._prepare(opened, progress)
        trained = job.search.train()
        result = job.search.choose(trained)
        data = {
            "refused": [{"site": each.site, "why": each.why} for each in job.refused],
            "next": next_command(opened.asked, "recipe.yaml", weights=opened.asked.out / "weights.safetensors"),
            **describe(job.search, trained, result),
        }
        _measure(job.search, opened.evaluation, trained, result, data, progress)
        recipe = leveled(
            opened.recipe, job.search.space, result.chosen.choice, f"{opened.target.name}, {job.search.budget.text}"
        )
        return Found(
            data, {"weights.safetensors": _weights(opened.model.module), "recipe.yaml": recipe.to_yaml().encode()}
        )

    def draw(self, data: Mapping[str, Any], output: Path) -> Any:
        """What was found, beside what it is compared with, and what to type next."""
        unit = data["budget"]["unit"]
        rows = [
            [name, show_cost(each["cost"], unit), _score(each), _top1(each), _levels(each)]
            for name, each in (("chosen", data["chosen"]), *data["baselines"].items())
        ]
        rows.append(["as it came", "", _score(data["original"]), _top1(data["original"]), ""])
        title = f"{data['model']['name']} for {data['target']}, at most {show_cost(data['budget']['limit'], unit)}"
        columns = ["same weights", "cost", "held-out accuracy", "top-1", "levels"]
        return group(table(columns, rows, title=title), f"written to {output}; next: {data['next']} -o OUT")

    def _prepare(self, opened: Opened, progress: Progress) -> _Job:
        asked, model = opened.asked, opened.model
        program = prepare(capture_model(model))
        names = {name for name, _ in model.module.named_parameters(remove_duplicate=False)}
        space, refused = find_space(program, opened.target, asked.sites.only, asked.sites.skip, names)
        (text,) = asked.budgets
        if read_limit(text).unit == "FLOPs":
            cost = flops(program, space)
        else:
            kind = "int8" if opened.quantizes else "fp16"
            cost = milliseconds(program, space, opened.target, opened.batch.best, kind)
        budget = read_budget(text, space, cost)
        images = self._images(opened)
        settings = self.settings.of_search(asked.settings.seed)
        checkpoint = Checkpoint.of(unfinished(asked.out), program, key_of(settings, budget, space), images)
        search = ElsaSearch(
            model.module, space, cost, budget, images, nm_keep, settings, checkpoint, progress, self.processes
        )
        return _Job(refused, search)

    def _images(self, opened: Opened) -> ImageSet:
        assert self.settings.train_data is not None, "`check` asks for some"
        model, seed = opened.model, opened.asked.settings.seed
        images = open_images(self.settings.train_data, model.preprocessing, limit=self.settings.train_images, seed=seed)
        if images.labels is not None:
            images.check_labels(model.classes or 1_000_000)
        if opened.evaluation is not None:
            check_apart(images, opened.evaluation)
        return images


def _score(each: Mapping[str, Any]) -> str:
    return f"{each['held_out_accuracy']:.2f} %"


def _top1(each: Mapping[str, Any]) -> str:
    return "not measured" if each["top1"] is None else f"{each['top1']:.2f} %"


def _levels(each: Mapping[str, Any]) -> str:
    """How many layers have which level."""
    levels = list(each["levels"].values())
    return ", ".join(f"{levels.count(level)} at {level}" for level in sorted(set(levels)))


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
    """The recipe with one `nm-mask` for each level in place of the N:M masks it may have."""
    order = list(ORDER)
    place = order.index("nm-mask")
    own = [step for step in recipe.pipeline.passes if step.name not in ("nm-mask", "permute-channels")]
    earlier = [index for index, step in enumerate(own) if step.name in order and order.index(step.name) < place]
    at = 1 + max(earlier, default=-1)
    masks = [build_pass("nm-mask", options, find_pass) for options in mask_steps(space, choice)]
    text = f"{recipe.description}; N:M level by level, chosen for {what}"
    return Recipe(f"{recipe.name}-elsa", text, Pipeline((*own[:at], *masks, *own[at:])))
