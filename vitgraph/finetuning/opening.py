"""A request for training, opened and checked before any work is done: cheap things first, so that a mistake is told at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import fx

from vitgraph.compile.inputs import open_inputs
from vitgraph.compile.request import DataRequest
from vitgraph.errors import InputError
from vitgraph.finetuning.request import DataSource, TrainingRequest
from vitgraph.images.class_names import match_classes
from vitgraph.images.data_sources import open_data
from vitgraph.images.image_set import ImageSet, stride
from vitgraph.images.variety import check_variety
from vitgraph.ir.batch import ANY_BATCH
from vitgraph.ir.dialect import dequantize
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.outputs.destination import check_folder
from vitgraph.training.held_out import check_apart, split
from vitgraph.training.mixture import Source
from vitgraph.training.optimizer import check_optimizer

if TYPE_CHECKING:
    from vitgraph.frontend.models import LoadedModel, ModelFacts
    from vitgraph.frontend.saved_programs import SavedModel

SHARE_HELD_OUT = 10
"""One image of so many is held out at most."""


@dataclass(frozen=True)
class OpenedTraining:
    """Everything that training works with."""

    request: TrainingRequest
    model: ModelFacts
    program: Program
    """As it comes, for any batch."""
    teacher: Program | None
    sources: tuple[Source, ...]
    """Without the images that are held out."""
    held_out: ImageSet
    calibration: ImageSet
    evaluation: ImageSet | None
    classes: int


def open_training(request: TrainingRequest) -> OpenedTraining:
    """Open everything that a request names; `InputError` where something asked for can't be had."""
    check_folder(request.output.out, request.output.force, request.output.inputs)
    _check_log_folder(request)
    for stage in request.recipe.stages:
        check_optimizer(stage.settings.optimization.opt)
    first = request.sources[0].data
    inputs = open_inputs(request.model, DataRequest(training=None if isinstance(first, str | Path) else first), None)
    model, handed_in = inputs.model, [] if inputs.training is None else [inputs.training]
    images = handed_in + [_open(each, model, request.seed) for each in request.sources[len(handed_in) :]]
    images = [
        found if source.labelled else found.without_labels()
        for source, found in zip(request.sources, images, strict=True)
    ]
    evaluation = None
    if request.evaluation is not None:
        evaluation = _open(DataSource(request.evaluation), model, request.seed, request.evaluation_images)
        evaluation.check_labels(model.classes or 1_000_000)
        for each in images:
            check_apart(each, evaluation)
    program = _program(model)
    classes = _classes(program, model)
    for source, found in zip(request.sources, images, strict=True):
        if source.labelled and found.labels is not None:
            found.check_labels(classes)
            _check_several(found, request)
    training, held_out = _hold_out(images[0], request)
    calibration = images[0].take(stride(len(images[0]), request.calibration_images))
    for stage in request.recipe.stages:
        stage.passes.check(request.target, calibration)
    return OpenedTraining(
        request=request,
        model=model,
        program=program,
        teacher=_teacher(request, model, program, classes),
        sources=tuple(
            Source(found.in_memory(), source.labelled and found.labels is not None, source.share)
            for source, found in zip(request.sources, [training, *images[1:]], strict=True)
        ),
        held_out=held_out,
        calibration=calibration,
        evaluation=evaluation,
        classes=classes,
    )


def _check_log_folder(request: TrainingRequest) -> None:
    """Raise `InputError` for a place of TensorBoard's logs that is no folder, or is in the output, which has to appear whole."""
    place = request.tensorboard
    if place is None:
        return
    if any(each.exists() and not each.is_dir() for each in (place, *place.parents)):
        raise InputError(f"tensorboard {place}: a file is there; name a folder")
    if place.resolve().is_relative_to(request.output.out.resolve()):
        raise InputError(f"tensorboard {place}: lies in the output {request.output.out}; name one elsewhere")


def _open(source: DataSource, model: ModelFacts, seed: int, limit: int | None = None) -> ImageSet:
    found = open_data(source.data, model.preprocessing, limit, seed, "calibration", model.input_shape)
    check_variety(found)
    return match_classes(found, model.class_names) if source.labelled else found


def _program(model: LoadedModel | SavedModel) -> Program:
    """The model as a program for any batch, whose weights train."""
    from vitgraph.frontend.open_model import program_of
    from vitgraph.frontend.saved_programs import SavedModel, takes_any_batch

    if isinstance(model, SavedModel):
        program = model.program
        if not takes_any_batch(program):
            raise InputError(
                f"{program.name}: was captured for a fixed batch, and training takes others; make it again with `--batch 1:8:64`"
            )
        if program.calls(dequantize) or not any(True for _ in program.parameters()):
            raise InputError(
                f"{program.name}: its weights are stored for an engine; train the program from before `materialize`"
            )
        return program
    return program_of(model, ANY_BATCH)


def _check_several(images: ImageSet, request: TrainingRequest) -> None:
    """Raise `InputError` where all labels are one class and labels are learnt from: every other class would be unlearnt."""
    learnt = any(stage.settings.distillation.hard for stage in request.recipe.stages)
    if learnt and len(set(images.labels or ())) == 1:
        raise InputError(
            f"images {images.source}: all {len(images)} are of class {(images.labels or (0,))[0]}; name images of several classes, or "
            "learn from the teacher alone (hard 0)"
        )


def _classes(program: Program, model: ModelFacts) -> int:
    """How many classes the one output tells apart; `InputError` where it is another output."""
    last: Any = program.output.args[0]
    kind = last.meta["type"] if isinstance(last, fx.Node) else None
    if not model.classes or not isinstance(kind, TensorType) or kind.rank != 2:
        what = kind if isinstance(kind, TensorType) else "several values"
        raise InputError(
            f"{program.name}: gives {what}, and training asks for logits [batch, classes]; train a model with a head"
        )
    return model.classes


def _hold_out(images: ImageSet, request: TrainingRequest) -> tuple[ImageSet, ImageSet]:
    count = min(request.held_out, len(images) // SHARE_HELD_OUT)
    if count < 1:
        raise InputError(
            f"images {images.source}: {len(images)}, too few to hold one in {SHARE_HELD_OUT} out to choose by; name more images"
        )
    return split(images, count, request.seed)


def _teacher(request: TrainingRequest, model: ModelFacts, program: Program, classes: int) -> Program | None:
    """What is learnt from: the model that is named, or the one that trains, as it comes."""
    from vitgraph.frontend.open_model import open_model
    from vitgraph.frontend.saved_programs import SavedModel

    settings = [stage.settings.distillation for stage in request.recipe.stages]
    if not any(each.soft or each.feature for each in settings):
        return None
    if request.teacher is None:
        if isinstance(model, SavedModel) and (program.masks or program.ledger):
            raise InputError(
                f"{program.name}: is a saved program, and what it was made of is to teach it; name that (--teacher, --teacher-weights), "
                "or give soft and feature the weight 0"
            )
        return program
    opened = open_model(request.teacher)
    found = _program(opened)
    if opened.classes != classes or found.input_types()[0].shape[1:] != program.input_types()[0].shape[1:]:
        raise InputError(
            f"teacher {opened.name}: takes {found.input_types()[0]} and tells {opened.classes} classes apart, the student takes "
            f"{program.input_types()[0]} and tells {classes}; name a teacher of the same images and classes"
        )
    return found
