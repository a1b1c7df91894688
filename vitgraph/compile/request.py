"""What a compilation is asked for: one frozen value. Its parts are also what a search is asked for (`vitgraph.searching.request`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vitgraph.domains import Natural, Points
from vitgraph.frontend.model_request import ModelRequest

if TYPE_CHECKING:
    from vitgraph.compile.recipe import Recipe
    from vitgraph.images.data_sources import Data
    from vitgraph.ir.batch import Batch
    from vitgraph.pass_manager.pipeline import Pipeline
    from vitgraph.targets.target import Target


@dataclass(frozen=True)
class DataRequest:
    """Images, as `vitgraph.images.data_sources` takes them, and how many of each; None for all of them."""

    calibration: Data | None = None
    calibration_images: int | None = 64
    evaluation: Data | None = None
    """With labels; looked at once, at the end."""
    evaluation_images: int | None = None
    training: Data | None = None
    training_images: int | None = None


@dataclass(frozen=True)
class PrecisionBounds:
    """What `mixed-precision` is held to; None leaves it free."""

    max_drop: Points | None = None
    """Points of top-1 that INT8 may cost."""
    min_int8: Natural | None = None
    """How many linears stay INT8 at least."""
    max_float_layers: Natural | None = None
    """How many sites may leave INT8 at most."""

    def given(self) -> dict[str, float]:
        """Those that were named, as the pass's options."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class MaskRequest:
    """What becomes of N:M masks, and of INT8 sites, that buy no time on the target."""

    drop_unprofitable: bool = False
    measured: Path | None = None
    """What was measured on the device, to judge by in place of an estimate: times of products, or the layers of an engine built there."""

    @property
    def judged(self) -> bool:
        """Whether masks are judged at all."""
        return self.drop_unprofitable or self.measured is not None


@dataclass(frozen=True)
class OutputRequest:
    """The folder to write, which appears whole or not at all."""

    out: Path
    force: bool = False
    """Whether a folder that vitgraph wrote is replaced."""
    inputs: tuple[Path, ...] = ()
    """What is read from disk: a folder that holds any of it is not replaced."""


@dataclass(frozen=True)
class CompileRequest:
    """Everything that a compilation is asked for."""

    model: ModelRequest
    target: Target
    recipe: Recipe
    output: OutputRequest
    data: DataRequest = field(default_factory=DataRequest)
    pipeline: Pipeline | None = None
    """In place of the recipe's."""
    batch: Batch | None = None
    """None for one image, or the batch that a program was captured for."""
    bounds: PrecisionBounds = field(default_factory=PrecisionBounds)
    masks: MaskRequest = field(default_factory=MaskRequest)
    warn_drop: Points = 2.0
    """Points of top-1 that may be lost without a warning."""
    backend: str | None = None
    """What measures and builds, as far as it can; None for ONNX Runtime and TensorRT."""
