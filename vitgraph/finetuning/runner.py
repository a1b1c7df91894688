"""Training from a request to files: run each stage's passes, train, judge, write.

Like `vitgraph/compile/compiler.py`, this file may look upward: it finds passes by name.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.compile.request import OutputRequest
from vitgraph.domains import Natural, hold
from vitgraph.errors import CheckFailed
from vitgraph.finetuning.request import DataSource, Precision, TrainingRequest
from vitgraph.outputs.whole_folder import whole_folder
from vitgraph.outputs.workspace import parts_of
from vitgraph.progress import Progress, silent
from vitgraph.training.processes import Processes

if TYPE_CHECKING:
    from torch import nn

    from vitgraph.finetuning.recipe import TrainingRecipe
    from vitgraph.images.data_sources import Data
    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.ir.program import Program
    from vitgraph.targets.target import Target

TIMED = ("train.json", "train.html")
"""The files of a training that hold times, and so differ from run to run."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training left: the content of `train.json`, and the program, which `compile_model` takes."""

    out: Path
    data: dict[str, Any]
    program: Program
    is_first: bool = True
    """Whether this process is the one of several that writes."""


def train(
    model: str | Path | nn.Module | Program,
    data: Data | Sequence[DataSource],
    *,
    out: str | Path,
    recipe: str | Path | TrainingRecipe = "gpusq",
    settings: Mapping[str, Any] | None = None,
    stage_settings: Mapping[str, Mapping[str, Any]] | None = None,
    teacher: str | Path | nn.Module | Program | None = None,
    teacher_weights: str | Path | None = None,
    weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    preprocessing: PreprocessingOptions | None = None,
    target: str | Path | Target | None = None,
    evaluate_data: Data | None = None,
    evaluate_images: int | None = None,
    held_out: int = 500,
    calibration_images: int = 64,
    precision: Precision = "no",
    compiled: bool = False,
    tensorboard: str | Path | None = None,
    workers: int = 0,
    force: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> TrainingResult:
    """Train a model by a recipe's stages; the program that comes out, and the report, go to `out`, whole or not at all.

    `data` are images, with or without labels, or several `DataSource`s. `settings` are those of `vitgraph.training.settings` by name, for
    every stage; `stage_settings` those of one stage by its name. The teacher is the model as it comes unless one is named. What was
    stopped goes on where it was when the same is asked for again. Raises `InputError` before any long work where something can't be
    had, and `CheckFailed` where a loss was not finite; then `out` holds the best that there was.
    """
    from vitgraph.compile.arguments import read_count, read_model, read_path, read_target
    from vitgraph.compile.files_read import files_read
    from vitgraph.finetuning.recipe import TrainingRecipe, load_training_recipe
    from vitgraph.passes import find_pass

    steps = recipe if isinstance(recipe, TrainingRecipe) else load_training_recipe(str(recipe), find_pass)
    sources = _sources(data)
    read = (weights, evaluate_data, *(each.data for each in sources))
    request = TrainingRequest(
        model=read_model(model, weights, model_args, preprocessing, seed),
        recipe=steps.with_values(settings or {}, stage_settings or {}),
        sources=sources,
        output=OutputRequest(
            read_path("out", out),
            force,
            files_read(model, (target, recipe), read, model_args) + files_read(teacher, (), (teacher_weights,), None),
        ),
        teacher=None if teacher is None else read_model(teacher, teacher_weights, model_args, preprocessing, seed),
        target=None if target is None else read_target(target),
        held_out=read_count("held_out", held_out) or 1,
        calibration_images=read_count("calibration_images", calibration_images) or 1,
        evaluation=evaluate_data,
        evaluation_images=read_count("evaluate_images", evaluate_images),
        precision=precision,
        compiled=compiled,
        tensorboard=None if tensorboard is None else read_path("tensorboard", tensorboard),
        workers=hold("workers", Natural, workers, strict=True),
        seed=seed,
    )  # fmt: skip
    return run_training(request, progress)


def run_training(request: TrainingRequest, progress: Progress = silent) -> TrainingResult:
    """Do what the request asks for; see `train`."""
    from vitgraph.finetuning.opening import open_training
    from vitgraph.finetuning.report import describe, write
    from vitgraph.finetuning.stage_work import top1
    from vitgraph.finetuning.stages import run_stages

    start = time.perf_counter()
    opened = open_training(request)
    processes = Processes.accelerated(request.precision, request.compiled, request.tensorboard)
    progress = progress if processes.rank == 0 else silent
    with _folder(request.output, processes) as folder:
        reference = top1(opened, opened.teacher or opened.program, processes, "evaluation, the teacher", progress)
        done = run_stages(opened, processes, parts_of(request.output.out), progress)
        data = {"vitgraph": version("vitgraph"), **describe(opened, done, processes, reference)}
        data["seconds"] = round(time.perf_counter() - start, 1)
        if folder is not None:
            write(data, done, request.recipe, folder)
    processes.end()
    stopped = [each for each in done if each.failed]
    if stopped:
        raise CheckFailed(
            f"stage {stopped[0].name}: {stopped[0].trained.curves.stopped}; {request.output.out} has the best that there was. "
            "A smaller lr, or clip_grad, may help"
        )
    return TrainingResult(request.output.out, data, done[-1].trained.program, processes.rank == 0)


def _sources(data: Data | Sequence[DataSource]) -> tuple[DataSource, ...]:
    given: Any = data
    listed: list[Any] = list(given) if isinstance(data, list | tuple) else []
    return tuple(listed) if listed and all(isinstance(each, DataSource) for each in listed) else (DataSource(given),)


@contextmanager
def _folder(output: OutputRequest, processes: Processes) -> Generator[Path | None]:
    """The folder to write, for the one process that does."""
    if processes.rank:
        yield None
        return
    with whole_folder(output.out, output.force, TIMED) as folder:
        yield folder
