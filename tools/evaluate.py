"""`vitgraph evaluate`: the accuracy of what was compiled, measured through any backend that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.errors import InputError
from vitgraph.tools.command import Answer, command, group, table
from vitgraph.tools.compile_model import EVALUATE_HELP
from vitgraph.tools.progress import show_progress
from vitgraph.tools.runnable import BACKEND_HELP, load_runner

if TYPE_CHECKING:
    from vitgraph.compile.accuracy import Predictions
    from vitgraph.images.image_set import ImageSet
    from vitgraph.images.preprocess import Preprocessing
    from vitgraph.runtime.backend import Execution


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "evaluate")(evaluate)


def evaluate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that `vitgraph compile` wrote.")],
    data: Annotated[str, typer.Option(metavar="DIR|ZIP", help=EVALUATE_HELP)],
    images: Annotated[
        int | None, typer.Option(min=1, help="How many of them; all unless given.", show_default=False)
    ] = None,
    backend: Annotated[str, typer.Option(metavar="NAME", help=f"What runs the images. {BACKEND_HELP}")] = "ort",
) -> Answer:
    """Measure top-1 of a compiled model on labelled images."""
    from vitgraph.compile.report import read_report
    from vitgraph.images.preprocess import build

    report = read_report(out)
    if report.preprocessing is None:
        raise InputError(f"{out}: it is not known how images are pre-processed: {report.preprocessing_why}")
    pictures = _open(data, images, build(report.preprocessing, f"{out / 'report.json'}: its pre-processing settings"))
    predictions, measured_on, executed = _predict(out, backend, pictures)
    answer: dict[str, Any] = {
        "model": report.model.name,
        "recipe": report.recipe,
        "images": len(pictures),
        "top1": round(predictions.top1, 3) if predictions.top1 is not None else None,
        "measured_on": measured_on,
        "data_sha256": pictures.sha256,
        **({} if executed is None else {"execution": executed.as_json()}),
    }
    rows = [[report.model.name, report.recipe, f"{answer['top1']:.2f} %", str(len(pictures)), measured_on]]
    told = table(["model", "recipe", "top-1", "images", "measured on"], rows)
    return Answer(answer, told if executed is None else group(told, f"{backend}: {executed.summary()}"))


def _open(data: str, limit: int | None, preprocessing: Preprocessing) -> ImageSet:
    from vitgraph.images.image_set import open_images

    pictures = open_images(data, preprocessing, limit=limit)
    if pictures.labels is None:
        raise InputError(
            f"images {data}: no labels ({pictures.kind}); accuracy needs a labels.csv (file,index,label) or class folders"
        )
    return pictures


def _predict(out: Path, backend: str, pictures: ImageSet) -> tuple[Predictions, str, Execution | None]:
    """The predictions, in words what ran them, and what the runtime says that it computed."""
    from vitgraph.backends import find_backend
    from vitgraph.compile.accuracy import predict

    chosen = find_backend(backend)
    with show_progress() as progress, load_runner(out, chosen) as runner:
        predictions = predict(runner, pictures, runner.batch_size, progress)
        executed = runner.execution(runner.batch_size or 8)
    return predictions, f"{chosen.name} {chosen.source}", executed
