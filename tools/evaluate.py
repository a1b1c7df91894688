"""`vitgraph evaluate`: the accuracy of what was compiled, measured through any backend that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.domains import ImageCount
from vitgraph.errors import InputError
from vitgraph.tools.command import Answer, command
from vitgraph.tools.compile_model import EVALUATE_HELP
from vitgraph.tools.drawing import group, table
from vitgraph.tools.progress import show_progress
from vitgraph.tools.runnable import BACKEND_HELP, load_runner

if TYPE_CHECKING:
    from vitgraph.compile.accuracy import Predictions
    from vitgraph.images.image_set import ImageSet
    from vitgraph.images.preprocess import Preprocessing
    from vitgraph.runtime.backend import Backend, Execution


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "evaluate")(evaluate)


def evaluate(
    out: Annotated[
        Path, typer.Argument(metavar="OUT|PROGRAM", help="A folder that `vitgraph compile` wrote, or a saved program.")
    ],
    data: Annotated[str, typer.Option(metavar="DIR|ZIP", help=EVALUATE_HELP)],
    images: Annotated[
        ImageCount | None, typer.Option(help="How many of them; all unless given.", show_default=False)
    ] = None,
    backend: Annotated[str, typer.Option(metavar="NAME", help=f"What runs the images. {BACKEND_HELP}")] = "ort",
) -> Answer:
    """Measure top-1 of a compiled model or a saved program on labelled images."""
    from vitgraph.backends import find_backend

    chosen = find_backend(backend)
    name, recipe, preprocessing = _describe(out)
    pictures = _open(out, data, images, preprocessing)
    predictions, measured_on, executed = _predict(out, chosen, pictures)
    answer: dict[str, Any] = {
        "model": name,
        "recipe": recipe,
        "images": len(pictures),
        "top1": round(predictions.top1, 3) if predictions.top1 is not None else None,
        "measured_on": measured_on,
        "data_sha256": pictures.sha256,
        **({} if executed is None else {"execution": executed.as_json()}),
    }
    rows = [[name, recipe or "–", f"{answer['top1']:.2f} %", str(len(pictures)), measured_on]]
    told = table(["model", "recipe", "top-1", "images", "measured on"], rows)
    text = told if executed is None else group(told, f"{backend}: {executed.summary()}")
    return Answer(answer, text, *_judge(out, predictions))


def _judge(out: Path, predictions: Predictions) -> tuple[int, str]:
    """Exit status, and what failed: an accuracy among logits of NaN is none."""
    if not predictions.not_finite:
        return 0, ""
    images = len(predictions.classes)
    return 1, (
        f"{out}: its logits hold NaN or infinity for {predictions.not_finite} of {images} images, which count as wrong; "
        "`vitgraph bisect` finds the pass that began it"
    )


def _describe(out: Path) -> tuple[str, str | None, Preprocessing]:
    """The model's name, the recipe of a compilation, and how images become its input."""
    from vitgraph.compile.report import read_report
    from vitgraph.frontend.model_request import ModelRequest
    from vitgraph.frontend.saved_programs import describe_saved, read_program
    from vitgraph.images.preprocess import build

    if out.suffix == ".safetensors" and out.is_file():
        saved = describe_saved(read_program(out), ModelRequest(out))
        if saved.preprocessing is None:
            raise InputError(
                f"{out}: the program does not say how images are pre-processed; save one of a named model"
                " (`vitgraph opt MODEL -o FILE`), or compile it with --mean and --std and evaluate the folder"
            )
        return saved.name, None, saved.preprocessing
    if not out.exists():
        raise InputError(
            f"{out}: there is no such folder or file; name what `vitgraph compile` wrote, or a saved program"
        )
    report = read_report(out)
    if report.preprocessing is None:
        raise InputError(f"{out}: it is not known how images are pre-processed: {report.preprocessing_why}")
    where = f"{out / 'report.json'}: its pre-processing settings"
    return report.model.name, report.recipe, build(report.preprocessing, where)


def _open(out: Path, data: str, limit: int | None, preprocessing: Preprocessing) -> ImageSet:
    from vitgraph.images.image_set import open_images
    from vitgraph.images.variety import check_variety

    pictures = open_images(data, preprocessing, limit=limit)
    if pictures.labels is None:
        raise InputError(
            f"images {data}: no labels ({pictures.kind}); accuracy needs a labels.csv (file,index,label) or class folders"
        )
    check_variety(pictures)
    in_words = pictures.kind == "class folders" and pictures.classes is not None
    return _numbered(out, pictures) if in_words else pictures


def _numbered(out: Path, pictures: ImageSet) -> ImageSet:
    """Class folders numbered as the model's classes are; `InputError` where that can't be told."""
    from vitgraph.frontend.model_request import ModelRequest
    from vitgraph.frontend.saved_programs import describe_saved, read_program
    from vitgraph.images.class_names import match_classes

    model = describe_saved(read_program(out), ModelRequest(out))
    numbered = match_classes(pictures, model.class_names)
    if model.classes is not None:
        numbered.check_labels(model.classes)
    return numbered


def _predict(out: Path, chosen: Backend, pictures: ImageSet) -> tuple[Predictions, str, Execution | None]:
    """The predictions, in words what ran them, and what the runtime says that it computed."""
    from vitgraph.compile.accuracy import predict

    with show_progress() as progress, load_runner(out, chosen) as runner:
        predictions = predict(runner, pictures, runner.batch_size, progress)
        executed = runner.execution(runner.batch_size or 8)
    return predictions, f"{chosen.name} {chosen.source}", executed
