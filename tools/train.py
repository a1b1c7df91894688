"""`vitgraph train`: a model trained under its masks and quantizers; leaves a program for `vitgraph compile`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vitgraph.domains import ImageCount, Natural
from vitgraph.errors import InputError
from vitgraph.tools.command import Answer, command
from vitgraph.tools.completion import target_names, training_recipe_names
from vitgraph.tools.drawing import group, table
from vitgraph.tools.model_options import ModelSettings
from vitgraph.tools.progress import show_progress
from vitgraph.tools.shared_options import EvaluateData, EvaluateImages, Force, Model, OutputFolder
from vitgraph.tools.train_options import TrainingSettings, data_sources, stage_settings


class Precision(StrEnum):
    """Mixed precision."""

    NO = "no"
    BF16 = "bf16"
    FP16 = "fp16"


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "train")(train)


def train(
    model: Model,
    output: OutputFolder,
    settings: ModelSettings,
    training: TrainingSettings,
    recipe: Annotated[
        str,
        typer.Option(
            help="gpusq, qat, sparse-finetune … (`vitgraph recipes`), or a .yaml file.",
            autocompletion=training_recipe_names,
        ),
    ] = "gpusq",
    train_data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR|ZIP[@SHARE]",
            help="Training images, and their share of the images seen; may be given again.",
            show_default=False,
        ),
    ] = None,
    unlabelled_data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR|ZIP[@SHARE]",
            help="The same, for images without labels or with labels of other classes than the model's.",
            show_default=False,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|PROGRAM",
            help="The model to distil from; the untouched model unless given.",
            show_default=False,
        ),
    ] = None,
    teacher_weights: Annotated[
        str | None,
        typer.Option(metavar="pretrained|random|FILE", help="The teacher's weights.", show_default=False),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="The device that the passes work for; none unless given.", autocompletion=target_names),
    ] = None,
    evaluate_data: EvaluateData = None,
    evaluate_images: EvaluateImages = None,
    held_out: Annotated[
        ImageCount, typer.Option(help="Training images held out for model selection; at most a tenth of them.")
    ] = 500,
    calibration_images: Annotated[ImageCount, typer.Option(help="Training images for calibration.")] = 64,
    stage: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STAGE.SETTING=VALUE", help="A setting of one stage.", show_default=False),
    ] = None,
    amp: Annotated[Precision, typer.Option(help="Mixed precision.")] = Precision.NO,
    torchcompile: Annotated[
        bool, typer.Option("--torchcompile", help="Compile student and teacher with torch.compile: for a GPU.")
    ] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Log losses and scores for TensorBoard there.", show_default=False),
    ] = None,
    workers: Annotated[Natural, typer.Option(help="Worker processes that decode images; 0: none.")] = 0,
    force: Force = False,
) -> Answer:
    """Train under masks and quantizers by distillation; write the program and a report."""
    from vitgraph.finetuning.runner import train as run

    if settings.batch is not None:
        raise InputError(
            "--batch: training captures a model for any batch; leave it out (images in a step: --batch-size)"
        )
    sources = [*data_sources(train_data or [], True), *data_sources(unlabelled_data or [], False)]
    if not sources:
        raise InputError("there is nothing to train with; name images (--train-data, --unlabelled-data)")
    with show_progress() as progress:
        found = run(
            model,
            sources,
            out=output,
            recipe=recipe,
            settings=training.values(),
            stage_settings=stage_settings(stage or []),
            teacher=teacher,
            teacher_weights=teacher_weights,
            weights=settings.weights,
            model_args=settings.arguments(),
            preprocessing=settings.preprocessing(),
            target=target,
            evaluate_data=evaluate_data,
            evaluate_images=evaluate_images,
            held_out=held_out,
            calibration_images=calibration_images,
            precision=amp.value,
            compiled=torchcompile,
            tensorboard=tensorboard,
            workers=workers,
            force=force,
            seed=settings.seed,
            progress=progress,
        )
    return Answer(found.data, _drawn(found.data, output), told=found.is_first)


def _drawn(data: Mapping[str, Any], output: Path) -> Any:
    """Accuracy from stage to stage, and what to type next."""
    evaluation = data["evaluation"]
    rows = [
        ["teacher" if data["teacher"] else "as it came", _percent(evaluation and evaluation["top1_teacher"]), "", ""]
    ]
    for each in data["stages"]:
        first, best = each["looks"][0], each["looks"][each["best"]]
        rows.append([f"{each['name']}, before training", _percent(each["top1_before"]), *_look(first)])
        rows.append([f"{each['name']}, trained", _percent(each["top1"]), *_look(best)])
    columns = ["", "top-1", "held out", "divergence"]
    title = f"{data['model']['name']}, trained by {data['recipe']}"
    following = shlex.join(["vitgraph", "compile", str(output), "--target", "a100", "-o", "OUT"])
    return group(
        table(columns, rows, title=title), f"written to {output} in {data['seconds']:.0f} s; next: {following}"
    )


def _look(look: Mapping[str, float]) -> list[str]:
    return [f"{look['accuracy']:.2f} %", f"{look['divergence']:.4f}"]


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f} %"
