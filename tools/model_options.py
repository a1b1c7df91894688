"""MODEL, or a saved program, and the options that go with it: declared once for every command that takes one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.errors import InputError

if TYPE_CHECKING:  # torch takes seconds to import; a command line that is wrong should be told so at once
    from vitgraph.frontend.models import LoadedModel
    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.ir.program import Program

MODEL_HELP = "A timm name, torchvision:NAME, transformers:CONFIG-DIR, module.path:factory, or the embedded digits-vit."
PROGRAM_HELP = MODEL_HELP + " Or a saved program: a file of `opt -o`, a folder of `compile`, or a graph's text (.txt)."

_IMAGES = "Pre-processing"


@dataclass(frozen=True)
class ModelSettings:
    """How a model is made and what it sees; None leaves the model's own."""

    weights: Annotated[
        str | None,
        typer.Option(
            metavar="pretrained|random|FILE", help="Its weights; pretrained unless given.", show_default=False
        ),
    ] = None
    model_args: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="Arguments for the model's maker; may be given again.")
    ] = field(default_factory=list[str])
    batch: Annotated[
        str, typer.Option(metavar="N|MIN:OPT:MAX", help="Images in a batch: fixed, or a range with its usual size.")
    ] = "1"
    image_size: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Size of the model's input.", rich_help_panel=_IMAGES)
    ] = None
    mean: Annotated[str | None, typer.Option(metavar="X[,Y,Z]", help="Mean of each channel, pixels in 0 to 1.")] = None
    std: Annotated[str | None, typer.Option(metavar="X[,Y,Z]", help="Standard deviation of each channel.")] = None
    resize: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Scale the short side to N, or both sides to H and W.")
    ] = None
    crop: Annotated[str | None, typer.Option(metavar="center|none", help="What is cut from the scaled image.")] = None
    interpolation: Annotated[
        str | None, typer.Option(metavar="NAME", help="nearest, box, bilinear, hamming, bicubic or lanczos.")
    ] = None
    seed: Annotated[int, typer.Option(help="For random weights and random images.")] = 0

    def arguments(self) -> dict[str, Any]:
        """What `--model-args` says; one option may hold several, separated by blanks."""
        from vitgraph.frontend.models import parse_model_args

        return parse_model_args([part for text in self.model_args for part in text.split()])

    def preprocessing(self) -> PreprocessingOptions:
        """The image options, read."""
        from vitgraph.images.preprocess import PreprocessingOptions

        return PreprocessingOptions.parse(
            self.image_size, self.mean, self.std, self.resize, self.crop, self.interpolation
        )

    def given(self) -> list[str]:
        """The options that a saved program has no use for and that were given all the same."""
        names = ("weights", "model_args", "image_size", "mean", "std", "resize", "crop", "interpolation")
        found = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name)]
        return found + (["--batch"] if self.batch != "1" else [])


def load_named(spec: str, settings: ModelSettings, values: bool = True) -> LoadedModel:
    """The model that MODEL names, with its weights; without `values`, with their shapes only."""
    from vitgraph.frontend.models import load_model

    return load_model(
        spec,
        weights=settings.weights or ("pretrained" if values else None),
        model_args=settings.arguments(),
        preprocessing=settings.preprocessing(),
        seed=settings.seed,
    )


def open_program(spec: str, settings: ModelSettings, values: bool = True) -> Program:
    """What MODEL|PROGRAM names, captured or read; `InputError` where it is neither.

    Without `values`, a model's weights have shapes only, unless the settings name some.
    """
    path = Path(spec)
    if path.suffix == ".onnx":
        raise InputError(
            f"{spec}: an ONNX file, where a model or a program is wanted; `vitgraph inspect` and `bench` read ONNX, "
            "passes rewrite the program it came from"
        )
    if not is_program(path):
        return _capture(spec, settings, values)
    if settings.given():
        raise InputError(
            f"{spec} is a saved program, it has these settings in it; leave out {', '.join(settings.given())}"
        )
    return _read_text(path, settings.seed) if path.suffix == ".txt" else read_program(path)


def is_program(path: Path) -> bool:
    """Is there a saved program at this path? A folder counts where it holds one."""
    return path.is_file() or program_file(path) is not None


def program_file(folder: Path) -> Path | None:
    """The program in a folder: one that was saved there, or the one `vitgraph compile` left."""
    places = (folder / "program.safetensors", folder / "program" / "program.safetensors")
    return next((place for place in places if place.is_file()), None)


def read_program(path: Path) -> Program:
    """Read a saved program or the one in a folder."""
    from vitgraph.ir.program_file import load

    return load(program_file(path) or path)


def _read_text(path: Path, seed: int) -> Program:
    from vitgraph.ir.parser import TextError, parse

    try:
        return parse(path.read_text(encoding="utf-8"), seed=seed)
    except (OSError, UnicodeDecodeError, TextError) as error:
        raise InputError(f"{path}: its graph can't be read: {error}") from error


def _capture(spec: str, settings: ModelSettings, values: bool) -> Program:
    from vitgraph.frontend.capture import capture_model
    from vitgraph.ir.batch import parse_batch

    batch = parse_batch(settings.batch)
    return capture_model(load_named(spec, settings, values), batch)
