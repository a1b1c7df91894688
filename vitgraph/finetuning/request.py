"""What training is asked for: one frozen value, of the same parts as a compilation (`vitgraph.compile.request`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitgraph.compile.request import OutputRequest
from vitgraph.domains import ImageCount, Natural, Share
from vitgraph.frontend.model_request import ModelRequest

if TYPE_CHECKING:
    from vitgraph.finetuning.recipe import TrainingRecipe
    from vitgraph.images.data_sources import Data
    from vitgraph.targets.target import Target

Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True)
class DataSource:
    """Images to train with."""

    data: Data
    labelled: bool = True
    """Whether labels are learnt from, where it has some; those of other classes than the model's must not be."""
    share: Share | None = None
    """Of what is seen; None: by how many images there are."""


@dataclass(frozen=True)
class TrainingRequest:
    """Everything that training is asked for."""

    model: ModelRequest
    recipe: TrainingRecipe
    sources: tuple[DataSource, ...]
    output: OutputRequest
    teacher: ModelRequest | None = None
    """None: the model as it comes, before any pass."""
    target: Target | None = None
    """Which device the passes are for; None for none in particular."""
    held_out: ImageCount = 500
    """So many training images at most are kept back to choose by, a tenth of them at most."""
    calibration_images: ImageCount = 64
    """So many training images passes may look at."""
    evaluation: Data | None = None
    """Images to report accuracy on, looked at once a stage; never those that anything is chosen by."""
    evaluation_images: ImageCount | None = None
    precision: Precision = "no"
    """Mixed precision of products."""
    compiled: bool = False
    """Whether models run through `torch.compile`."""
    tensorboard: Path | None = None
    """A folder for what TensorBoard shows."""
    workers: Natural = 0
    """Processes that decode images; 0: this one does."""
    seed: int = 0
