"""A search from words to files: open and check everything, search, measure, write; `tools/search.py` declares the words."""

from __future__ import annotations

import shlex
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vitgraph.accuracy import predict
from vitgraph.batch import parse_batch
from vitgraph.capture import capture_model
from vitgraph.checkpoint import Checkpoint
from vitgraph.contract import Refusal
from vitgraph.images.image_set import ImageSet, open_images
from vitgraph.models import LoadedModel
from vitgraph.outputs import check_output, unfinished, whole_folder, write_whole
from vitgraph.passes import ORDER, find_pass
from vitgraph.passes._nm import nm_keep
from vitgraph.pipeline import Pipeline, build_pass
from vitgraph.recipe import Recipe, load_recipe
from vitgraph.search.elsa import Result, Search, Trained, key_of
from vitgraph.search.levels import (
    Choice,
    Space,
    budget_unit,
    find_space,
    flops,
    milliseconds,
    read_budget,
)
from vitgraph.search.search_report import describe, mask_steps, write_report
from vitgraph.search.supernet import Frozen
from vitgraph.target import Target, get_target
from vitgraph.tools.graph_cost import prepare
from vitgraph.tools.model_options import ModelSettings, load_named
from vitgraph.tools.progress import Progress
from vitgraph.tools.search_options import SearchSettings
from vitgraph.training.held_out import check_apart
from vitgraph.training.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    model: str
    target: str
    budget: str
    recipe: str
    train: tuple[str, int | None]
    """Images, and how many of them."""
    evaluate: str | None
    out: Path
    force: bool
    settings: ModelSettings
    searching: SearchSettings


@dataclass(frozen=True)
class _Job:
    """The same, opened and checked."""

    target: Target
    recipe: Recipe
    model: LoadedModel
    refused: list[Refusal]
    evaluation: ImageSet | None
    search: Search


def run(asked: Asked, method: str, progress: Progress) -> dict[str, Any]:
    """Search, and write the folder; the content of `search.json`. `InputError` before any work where something can't be had."""
    start = time.perf_counter()
    check_output(asked.out, asked.force)
    processes = Processes.accelerated() if asked.searching.accelerate else Processes()
    job = _prepare(asked, processes, progress)
    trained = job.search.train()
    result = job.search.choose(trained)
    found = describe(job.search, trained, result)
    data = {"vitgraph": version("vitgraph"), "method": method, **_describe(job, asked), **found}
    _measure(job, trained, result, data, progress)
    data["seconds"] = round(time.perf_counter() - start, 1)
    if processes.rank == 0:
        with whole_folder(asked.out, asked.force) as folder:
            _write(job, result, data, folder)
        shutil.rmtree(unfinished(asked.out), ignore_errors=True)
    return data


def _prepare(asked: Asked, processes: Processes, progress: Progress) -> _Job:
    """Open everything, the cheap things first, so that a mistake is told at once."""
    unit, batch = budget_unit(asked.budget), parse_batch(asked.settings.batch)
    target, recipe = get_target(asked.target), load_recipe(asked.recipe, find_pass)
    recipe.pipeline.check(target)
    model = load_named(asked.model, asked.settings)
    program = prepare(capture_model(model))
    names = {name for name, _ in model.module.named_parameters(remove_duplicate=False)}
    space, refused = find_space(program, target, asked.searching.only, asked.searching.skip, names)
    kind = "int8" if any(step.name == "quantize" for step in recipe.pipeline.passes) else "fp16"
    cost = flops(program, space) if unit == "FLOPs" else milliseconds(program, space, target, batch.best, kind)
    budget = read_budget(asked.budget, space, cost)
    images = open_images(asked.train[0], model.preprocessing, limit=asked.train[1], seed=asked.settings.seed)
    if images.labels is not None:
        images.check_labels(model.classes or 1_000_000)
    evaluation = None if asked.evaluate is None else _open_evaluation(asked.evaluate, model, images)
    settings = asked.searching.elsa(asked.settings.seed)
    checkpoint = Checkpoint.of(unfinished(asked.out), program, key_of(settings, budget, space), images)
    search = Search(model.module, space, cost, budget, images, nm_keep, settings, checkpoint, progress, processes)
    return _Job(target, recipe, model, refused, evaluation, search)


def _open_evaluation(source: str, model: LoadedModel, images: ImageSet) -> ImageSet:
    evaluation = open_images(source, model.preprocessing)
    evaluation.check_labels(model.classes or 1_000_000)
    check_apart(images, evaluation)
    return evaluation


def _describe(job: _Job, asked: Asked) -> dict[str, Any]:
    """The keys of `search.json` that the search itself does not know."""
    model = job.model
    return {
        "model": {"name": model.name, "source": model.source, "weights": model.weights, "weights_sha256": model.weights_sha256},
        "target": job.target.name,
        "recipe": job.recipe.name,
        "refused": [{"site": each.site, "why": each.why} for each in job.refused],
        "next": _next(job, asked),
    }  # fmt: skip


def _next(job: _Job, asked: Asked) -> str:
    """The command line that compiles what was found."""
    settings, out = asked.settings, asked.out
    own = ("image_size", "mean", "std", "resize", "crop", "interpolation")
    given: list[tuple[str, Any]] = [("model-args", each) for each in settings.model_args]
    given += [(name.replace("_", "-"), getattr(settings, name)) for name in own if getattr(settings, name)]
    given += [("weights", out / "weights.safetensors"), ("recipe", out / "recipe.yaml"), ("target", job.target.name)]
    return shlex.join(["vitgraph", "compile", asked.model, *(str(word) for name, value in given for word in (f"--{name}", value))])  # fmt: skip


@dataclass(frozen=True)
class _Runner:
    logits: Callable[[Tensor], Tensor]
    device: torch.device

    @torch.no_grad()
    def run(self, batch: Tensor) -> Tensor:
        return self.logits(batch.to(self.device)).cpu()


def _measure(job: _Job, trained: Trained, result: Result, data: dict[str, Any], progress: Progress) -> None:
    """Top-1 of what was chosen, and of all that it is compared with, on images that took no part."""
    rows: dict[str, tuple[dict[str, Any], Choice | None]] = {
        "as it came": (data["original"], None),
        "chosen": (data["chosen"], result.chosen.choice),
        **{name: (data["baselines"][name], each.choice) for name, each in result.baselines.items()},
    }
    device, frozen = job.search.processes.device, Frozen(trained.supernet)
    for name, (row, choice) in rows.items():
        row["top1"] = None
        if job.evaluation is not None:
            logits = _logits(trained.original if choice is None else frozen, choice)
            found = predict(_Runner(logits, device), job.evaluation, None, progress, f"evaluation: {name}")
            row["top1"] = None if found.top1 is None else round(found.top1, 3)
    evaluation = job.evaluation
    data["evaluation"] = evaluation and {"images": len(evaluation), "source": evaluation.source, "data_sha256": evaluation.sha256}  # fmt: skip
    data["evaluation_why"] = None if evaluation else "no images to evaluate on; give --evaluate-data"


def _logits(model: nn.Module | Frozen, choice: Choice | None) -> Callable[[Tensor], Tensor]:
    if isinstance(model, Frozen):
        assert choice is not None
        return lambda pixels: model.logits(pixels, choice)
    return model


def _write(job: _Job, result: Result, data: dict[str, Any], folder: Path) -> None:
    from safetensors.torch import save

    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in job.model.module.state_dict().items()}
    write_whole(folder / "weights.safetensors", save(state))
    recipe = leveled(job.recipe, job.search.space, result.chosen.choice, f"{job.target.name}, {job.search.budget.text}")
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    write_report(data, folder)


def leveled(recipe: Recipe, space: Space, choice: Choice, what: str) -> Recipe:
    """The recipe with one `nm-mask` for each level in place of the N:M masks it may have."""
    order = list(ORDER)
    place = order.index("nm-mask")
    own = [step for step in recipe.pipeline.passes if step.name not in ("nm-mask", "permute-channels")]
    behind = [index for index, step in enumerate(own) if step.name in order and order.index(step.name) < place]
    at = 1 + max(behind, default=-1)
    masks = [build_pass("nm-mask", options, find_pass) for options in mask_steps(space, choice)]
    text = f"{recipe.description}; N:M level by level, chosen for {what}"
    return Recipe(f"{recipe.name}-elsa", text, Pipeline((*own[:at], *masks, *own[at:])))
