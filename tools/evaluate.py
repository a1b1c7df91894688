"""`vitgraph evaluate`: the accuracy of what was compiled, measured through any backend that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.domains import ImageCount
from vitgraph.errors import InputError
from vitgraph.tools.command import Answer, command
from vitgraph.tools.drawing import group, table
from vitgraph.tools.model_options import ImageSettings
from vitgraph.tools.progress import show_progress
from vitgraph.tools.runnable import BACKEND_HELP, load_runner
from vitgraph.tools.shared_options import EVALUATE_HELP

if TYPE_CHECKING:
    from vitgraph.compile.accuracy import Predictions
    from vitgraph.compile.features import Features
    from vitgraph.frontend.saved_programs import SavedModel
    from vitgraph.images.image_set import ImageSet
    from vitgraph.images.preprocess import Preprocessing
    from vitgraph.runtime.backend import Backend, Execution, Violation


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "evaluate")(evaluate)


def evaluate(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT|PROGRAM", help="A folder that `vitgraph compile` wrote, a saved program or an ONNX file."
        ),
    ],
    data: Annotated[str, typer.Option(metavar="DIR|ZIP", help=EVALUATE_HELP)],
    settings: ImageSettings,
    images: Annotated[
        ImageCount | None, typer.Option(help="How many of them; all unless given.", show_default=False)
    ] = None,
    backend: Annotated[str, typer.Option(metavar="NAME", help=f"What runs the images. {BACKEND_HELP}")] = "ort",
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT|PROGRAM", help="What it is held against, run by the same backend.", show_default=False
        ),
    ] = None,
) -> Answer:
    """Measure top-1 of a compiled model or a saved program on labelled images; of one that gives features how good those are."""
    from vitgraph.backends import find_backend
    from vitgraph.compile.features import Features

    chosen = find_backend(backend)
    model = _describe(out, settings)
    other = None if against is None else _comparable(against, model, out, settings)
    pictures = _open(model, data, images, settings, labelled=other is None)
    found, executed, broken = _run(out, model, chosen, pictures)
    expected = None if against is None or other is None else _run(against, other, chosen, pictures)[0]
    answer: dict[str, Any] = {
        "model": model.name,
        "recipe": model.recipe,
        "images": len(pictures),
        **(_features(found, expected) if isinstance(found, Features) else _classes(found, expected)),
        "against": None if against is None else str(against),
        "measured_on": f"{chosen.name} {chosen.source}",
        "data_sha256": pictures.sha256,
        **({} if executed is None else {"execution": executed.as_json()}),
        **({"violations": [asdict(each) for each in broken]} if broken else {}),
    }
    told = _table(answer, model)
    text = told if executed is None else group(told, f"{backend}: {executed.summary()}")
    judged = [(out, found), *([] if against is None or expected is None else [(against, expected)])]
    return Answer(answer, text, *_judge(judged, len(pictures), [f"{out}: {each}" for each in broken]))


def _classes(found: Predictions, expected: Any) -> dict[str, Any]:
    if expected is not None and expected.width != found.width:
        raise InputError(
            f"--against: it tells {expected.width} classes apart and this {found.width}; name the program as it was"
        )
    agreement = None if expected is None else round(found.agreement(expected), 3)
    return {"top1": _rounded(found.top1), "agreement": agreement}


def _features(found: Features, expected: Any) -> dict[str, Any]:
    """Top-1 by neighbours alone, where there is nothing to hold them against."""
    from vitgraph.compile.evaluation import compare_features
    from vitgraph.compile.features import NEIGHBOURS

    if expected is not None and found.values.shape != expected.values.shape:
        sizes = [each.values.shape[1] for each in (expected, found)]
        raise InputError(
            f"--against: it gives {sizes[0]} features an image and this {sizes[1]}; name the program as it was"
        )
    if expected is not None:
        return {"top1": None, "agreement": None, "embedding": compare_features(expected, found).model_dump()}
    own = {
        "size": found.values.shape[1],
        "knn_top1": _rounded(found.knn_top1),
        "neighbours": min(NEIGHBOURS, len(found.values) - 1),
    }
    return {"top1": None, "agreement": None, "embedding": own}


def _table(answer: dict[str, Any], model: _Model) -> Any:
    """One row; a figure that needs `--against` is there where that is given."""
    found: dict[str, Any] | None = answer.get("embedding")
    if found is None:
        figures = {"top-1": _percent(answer["top1"]), "agreement": _percent(answer["agreement"])}
    else:
        figures = {
            "top-1 by neighbours": _percent(found["knn_top1"]),
            "cosine, mean": f"{found.get('cosine_mean')}",
            "cosine, worst": f"{found.get('cosine_worst')}",
            "same neighbour": _percent(found.get("neighbour_agreement")),
        }
    shown = figures if answer["against"] else dict(list(figures.items())[:1])
    row = [model.name, model.recipe or "–", *shown.values(), str(answer["images"]), answer["measured_on"]]
    return table(["model", "recipe", *shown, "images", "measured on"], [row])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} %"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _judge(
    judged: Sequence[tuple[Path, Predictions | Features]], images: int, broken: Sequence[str]
) -> tuple[int, str]:
    """Exit status, and what failed: an accuracy among outputs of NaN is none, nor is an agreement with them; an engine that is not
    what was planned was measured all the same."""
    faults = [
        f"{out}: its output holds NaN or infinity for {found.not_finite} of {images} images, which count as wrong"
        for out, found in judged
        if found.not_finite
    ]
    if not faults:
        return (1, "\n".join(["what was loaded is not what was planned:", *broken])) if broken else (0, "")
    return 1, "; ".join([*broken, *faults, "`vitgraph bisect` finds the pass that began it"])


@dataclass(frozen=True)
class _Model:
    """What is known of what is evaluated."""

    out: Path
    name: str
    recipe: str | None
    preprocessing: Preprocessing
    features: bool
    """Whether it gives features in place of classes."""


def _describe(out: Path, settings: ImageSettings) -> _Model:
    """The model's name, the recipe of a compilation, and how images become its input."""
    from vitgraph.compile.report import read_report
    from vitgraph.images.preprocess import build
    from vitgraph.ir.model_output import gives_features

    if out.suffix in (".safetensors", ".onnx") and out.is_file():
        saved = _saved(out, settings)
        if saved.preprocessing is None:
            raise InputError(
                f"{out}: it does not say how images are pre-processed; give --mean and --std, or save a program of a named "
                "model (`vitgraph opt MODEL -o FILE`)"
            )
        return _Model(out, saved.name, None, saved.preprocessing, gives_features(saved.program))
    if not out.exists():
        raise InputError(
            f"{out}: there is no such folder or file; name what `vitgraph compile` wrote, or a saved program"
        )
    report = read_report(out)
    if report.preprocessing is None:
        raise InputError(f"{out}: it is not known how images are pre-processed: {report.preprocessing_why}")
    plan = build(report.preprocessing, f"{out / 'report.json'}: its pre-processing settings")
    return _Model(out, report.model.name, report.recipe, plan, report.model.gives == "features")


def _saved(out: Path, settings: ImageSettings) -> SavedModel:
    """What is known of a saved program or an ONNX file."""
    from vitgraph.frontend.open_model import open_saved

    saved = open_saved(settings.request(out))
    assert saved is not None
    return saved


def _comparable(against: Path, model: _Model, out: Path, settings: ImageSettings) -> _Model:
    """What `--against` names; `InputError` where the two would not see, or give, the same."""
    other = _describe(against, settings)
    if other.preprocessing != model.preprocessing:
        raise InputError(f"--against {against}: its images are pre-processed otherwise than those of {out}")
    if other.features != model.features:
        kinds = [("classes", "features")[each.features] for each in (other, model)]
        raise InputError(f"--against {against}: gives {kinds[0]}, and {out} gives {kinds[1]}")
    return other


def _open(model: _Model, data: str, limit: int | None, settings: ImageSettings, labelled: bool) -> ImageSet:
    """The images; features may do without labels where they are held against others."""
    from vitgraph.images.image_set import open_images
    from vitgraph.images.variety import check_variety

    pictures = open_images(data, model.preprocessing, limit=limit)
    if pictures.labels is None and (labelled or not model.features):
        other = ", or --against the program as it was" if model.features else ""
        raise InputError(
            f"images {data}: no labels ({pictures.kind}); accuracy needs a labels.csv (file,index,label) or class folders{other}"
        )
    check_variety(pictures)
    in_words = pictures.kind == "class folders" and pictures.classes is not None
    return _numbered(model.out, pictures, settings) if in_words and not model.features else pictures


def _numbered(out: Path, pictures: ImageSet, settings: ImageSettings) -> ImageSet:
    """Class folders numbered as the model's classes are; `InputError` where that can't be told."""
    from vitgraph.images.class_names import match_classes

    model = _saved(out, settings)
    numbered = match_classes(pictures, model.class_names)
    if model.classes is not None:
        numbered.check_labels(model.classes)
    return numbered


def _run(
    out: Path, model: _Model, chosen: Backend, pictures: ImageSet
) -> tuple[Predictions | Features, Execution | None, tuple[Violation, ...]]:
    """What it gives for the images, what the runtime says that it computed, and where that is not what was planned."""
    from vitgraph.compile.accuracy import predict
    from vitgraph.compile.features import embed

    with show_progress() as progress, load_runner(out, chosen) as runner:
        what = f"evaluation: {out}"
        told = (runner, pictures, runner.batch_size, progress, what)
        found = embed(*told) if model.features else predict(*told)
        executed, broken = runner.execution(runner.batch_size or 8), runner.violations
    return found, executed, broken
