"""`vitgraph evaluate`: the accuracy of what was compiled, measured on the ONNX file that is shipped."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.errors import InputError
from vitgraph.tools.command import Answer, command, table
from vitgraph.tools.compile_model import EVALUATE_HELP
from vitgraph.tools.progress import show_progress

if TYPE_CHECKING:
    from vitgraph.compile.accuracy import Predictions
    from vitgraph.images.preprocess import Preprocessing


class On(StrEnum):
    """What runs the images."""

    ORT = "ort"
    EAGER = "eager"


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "evaluate")(evaluate)


def evaluate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that `vitgraph compile` wrote.")],
    data: Annotated[str, typer.Option(metavar="DIR|ZIP", help=EVALUATE_HELP)],
    images: Annotated[
        int | None, typer.Option(min=1, help="How many of them; all unless given.", show_default=False)
    ] = None,
    on: Annotated[On, typer.Option(help="ort: model.onnx in ONNX Runtime; eager: the program in torch.")] = On.ORT,
) -> Answer:
    """Measure top-1 of a compiled model on labelled images."""
    from vitgraph.compile.report import read_report
    from vitgraph.images.preprocess import build

    report = read_report(out)
    if report.preprocessing is None:
        raise InputError(f"{out}: it is not known how images are pre-processed: {report.preprocessing_why}")
    preprocessing = build(report.preprocessing, f"{out / 'report.json'}: its pre-processing settings")
    with show_progress() as progress:
        found = _predict(out, data, images, preprocessing, report.batch, on, progress)
    predictions, count, digest, measured_on = found
    answer: dict[str, Any] = {
        "model": report.model.name,
        "recipe": report.recipe,
        "images": count,
        "top1": round(predictions.top1, 3) if predictions.top1 is not None else None,
        "measured_on": measured_on,
        "data_sha256": digest,
    }
    rows = [[report.model.name, report.recipe, f"{answer['top1']:.2f} %", str(count), measured_on]]
    return Answer(answer, table(["model", "recipe", "top-1", "images", "measured on"], rows))


def _predict(
    out: Path, data: str, limit: int | None, preprocessing: Preprocessing, batch: str, on: On, progress: Any
) -> tuple[Predictions, int, str, str]:
    """The predictions, how many, the data's hash, and in words what ran them."""
    from vitgraph.backends import find_backend
    from vitgraph.compile.accuracy import predict
    from vitgraph.frontend.saved_programs import program_file
    from vitgraph.images.image_set import open_images
    from vitgraph.ir.program_file import load

    source: Any = out / "model.onnx"
    if on is On.EAGER:
        file = program_file(out)
        if file is None:
            raise InputError(f"{out}: holds no program to run in torch; take --on ort")
        source = load(file)
    pictures = open_images(data, preprocessing, limit=limit)
    if pictures.labels is None:
        raise InputError(
            f"images {data}: no labels ({pictures.kind}); accuracy needs a labels.csv (file,index,label) or class folders"
        )
    fixed = None if ":" in batch else int(batch)
    with find_backend(on.value).load(source) as runner:
        predictions = predict(runner, pictures, fixed, progress)
    return predictions, len(pictures), pictures.sha256, f"{on.value} {'model.onnx' if on is On.ORT else 'program'}"
