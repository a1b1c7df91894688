"""What passes work with on the command line: a pipeline, a target, calibration images, and a batch to compare numbers on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from vitgraph.domains import ImageCount
from vitgraph.errors import InputError
from vitgraph.tools.completion import target_names

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraph.images.image_set import ImageSet
    from vitgraph.ir.program import Program
    from vitgraph.pass_manager.pass_contract import Context
    from vitgraph.pass_manager.pipeline import Pipeline

PIPELINE_HELP = "Passes in order, such as canonicalize,nm-mask{n=2 m=4}; or the name or the file of a recipe."


@dataclass(frozen=True)
class CalibrationSettings:
    """The images that activations' ranges are taken from."""

    calibration_data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|ZIP|random", help="Images to calibrate with; `random` is seeded noise.", show_default=False
        ),
    ] = None
    calibration_images: Annotated[ImageCount, typer.Option(help="How many of them.")] = 64


@dataclass(frozen=True)
class PassSettings(CalibrationSettings):
    """The surroundings of a pipeline that runs outside of `compile`."""

    target: Annotated[
        str | None,
        typer.Option(
            help="The device passes are to please (`vitgraph targets`, or a .yaml file); none unless given.",
            autocompletion=target_names,
        ),
    ] = None


def read_pipeline(text: str) -> Pipeline:
    """A pipeline's text, or a recipe's name or file."""
    from vitgraph.compile.arguments import read_steps
    from vitgraph.passes import find_pass

    return read_steps(text, find_pass)


def check_pipeline(steps: Pipeline, settings: PassSettings) -> None:
    """Raise `InputError` for passes that can't be had on this target or with these images, before anything is opened."""
    from vitgraph.images.calibration_data import UnopenedImages
    from vitgraph.targets.target import get_target

    target = None if settings.target is None else get_target(settings.target)
    steps.check(target, None if settings.calibration_data is None else UnopenedImages())


def make_context(program: Program, settings: PassSettings, seed: int, fuel: int | None = None) -> Context:
    """Everything a pass may ask for, opened and checked; progress goes to standard error."""
    from vitgraph.pass_manager.pass_contract import Context
    from vitgraph.targets.target import get_target

    target = None if settings.target is None else get_target(settings.target)
    images = None
    if settings.calibration_data is not None:
        images = open_calibration(program, settings.calibration_data, settings.calibration_images, seed)
    return Context(target=target, probe=make_probe(program, images, seed), calibration=images, fuel=fuel)


def open_calibration(program: Program, data: str, count: int, seed: int) -> ImageSet:
    """Images as this program was made to see them."""
    from vitgraph.images.image_set import open_images
    from vitgraph.images.preprocess import Preprocessing
    from vitgraph.images.variety import check_variety

    stored = program.provenance.get("preprocessing")
    if stored is not None:
        images = open_images(data, Preprocessing.from_json(json.dumps(stored)), limit=count, seed=seed)
        check_variety(images)
        return images
    kind = program.input_types()[0]
    tail = kind.shape[1:]
    if data != "random" or len(tail) != 3 or tail[0] not in (1, 3):
        raise InputError(
            f"{program.name}: it is not known how its images are pre-processed; only `random` will do, for an input "
            f"[batch, 1 or 3, height, width] (this one is {kind})"
        )
    middle = (0.5,) * int(str(tail[0]))
    size = (int(str(tail[1])), int(str(tail[2])))
    return open_images(
        data, Preprocessing(image_size=size, resize=size, mean=middle, std=middle), limit=count, seed=seed
    )


def make_probe(program: Program, images: ImageSet | None = None, seed: int = 0) -> tuple[Tensor, ...]:
    """A batch to compare numbers on, one tensor for each input: the first images, or seeded noise; an open batch is 2."""
    import torch

    from vitgraph.ir.tensor_type import Dim

    generator = torch.Generator().manual_seed(seed)
    made = list[torch.Tensor]()
    for kind in program.input_types():
        shape = [size.at(2) if isinstance(size, Dim) else size for size in kind.shape]
        if images is not None and not made:
            pixels = next(iter(images.batches(shape[0])))[0]
            made.append(pixels[torch.arange(shape[0]) % pixels.shape[0]])
        elif kind.dtype.is_floating_point:
            made.append(torch.randn(shape, generator=generator).to(kind.dtype))
        else:
            made.append(torch.zeros(shape, dtype=kind.dtype))
    return tuple(made)
