"""MODEL, or a saved program, and the options that go with it: declared once for every command that takes one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.domains import Seed

if TYPE_CHECKING:  # torch takes seconds to import; a command line that is wrong should be told so at once
    from vitgraph.frontend.model_request import ModelRequest
    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.ir.batch import Batch
    from vitgraph.ir.program import Program

MODEL_HELP = "A timm name, torchvision:NAME, transformers:CONFIG-DIR, module.path:factory, or the embedded digits-vit."
SAVED_HELP = MODEL_HELP + " Or a saved program: a file of `opt -o`, or a folder of `compile`. Or an ONNX file."
PROGRAM_HELP = SAVED_HELP + " Or a graph's text (.txt), with random weights."

_IMAGES = "Pre-processing"
ImageSize = Annotated[
    str | None, typer.Option(metavar="N|HxW", help="Size of the model's input.", rich_help_panel=_IMAGES)
]
Mean = Annotated[str | None, typer.Option(metavar="X[,Y,Z]", help="Mean of each channel, pixels in 0 to 1.")]
Std = Annotated[str | None, typer.Option(metavar="X[,Y,Z]", help="Standard deviation of each channel.")]
Resize = Annotated[
    str | None, typer.Option(metavar="N|HxW", help="Scale the short side to N, or both sides to H and W.")
]
Crop = Annotated[str | None, typer.Option(metavar="center|none", help="What is cut from the scaled image.")]
Interpolation = Annotated[
    str | None, typer.Option(metavar="NAME", help="nearest, box, bilinear, hamming, bicubic or lanczos.")
]


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
        str | None,
        typer.Option(
            metavar="N|MIN:OPT:MAX",
            help="Images in a batch: fixed, or a range with its usual size; 1 unless given.",
            show_default=False,
        ),
    ] = None
    image_size: ImageSize = None
    mean: Mean = None
    std: Std = None
    resize: Resize = None
    crop: Crop = None
    interpolation: Interpolation = None
    seed: Annotated[Seed, typer.Option(help="For random weights and random images.")] = 0

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

    def request(self, model: str) -> ModelRequest:
        """What the core is asked for."""
        from vitgraph.frontend.model_request import ModelRequest

        return ModelRequest(model, self.weights, self.arguments(), self.preprocessing(), self.seed)

    def sizes(self) -> Batch | None:
        """The batch sizes that were named; None leaves one image, or those of a saved program."""
        from vitgraph.ir.batch import parse_batch

        return None if self.batch is None else parse_batch(self.batch)


@dataclass(frozen=True)
class ImageSettings:
    """What an ONNX file's model sees; other models and programs say it themselves."""

    image_size: ImageSize = None
    mean: Mean = None
    std: Std = None
    resize: Resize = None
    crop: Crop = None
    interpolation: Interpolation = None

    def request(self, model: Path) -> ModelRequest:
        """What the core is asked for."""
        return ModelSettings(**asdict(self)).request(str(model))


def open_program(spec: str, settings: ModelSettings, values: bool = True) -> Program:
    """What MODEL|PROGRAM names, captured or read; without `values`, weights have shapes only, unless some are named."""
    from vitgraph.frontend import open_model

    return open_model.open_program(settings.request(spec), settings.sizes(), values)
