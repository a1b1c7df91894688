"""What a compilation was asked for, opened and checked before any work is done.

Like `vitgraph/compile/compiler.py`, this file may look upward: it finds passes by name and reads engines' layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.errors import InputError
from vitgraph.ir.batch import Batch, parse_batch
from vitgraph.runtime.memory import trim_memory

if TYPE_CHECKING:
    from torch import nn

    from vitgraph.compile.accuracy import Predictions
    from vitgraph.compile.recipe import Recipe
    from vitgraph.frontend.models import LoadedModel
    from vitgraph.images.image_set import ImageSet
    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.pass_manager.pipeline import Pipeline
    from vitgraph.runtime.backend import Backend, Builder
    from vitgraph.targets.target import Target

Progress = Callable[[str, int, int], None]


@dataclass
class Job:
    """Everything a compilation was asked for, opened and checked before any work is done."""

    target: Target
    recipe: Recipe
    pipeline: Pipeline
    batch: Batch
    model: LoadedModel
    calibration: ImageSet | None
    evaluation: ImageSet | None
    progress: Progress
    scratch: Path
    runner: Backend
    """What measures accuracy."""
    builder: Builder
    """What the engine is planned by, and built by unless `unbuilt_why` says why not."""
    unbuilt_why: str | None
    drop_unprofitable_masks: bool = False
    """Whether masks that buy no time are taken back."""
    measured_layers: Mapping[str, str | None] | None = None
    """See `vitgraph.compile.mask_profit`."""
    reference: Predictions | None = None
    """Of the captured model, once it has been evaluated."""
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def timed(self, what: str) -> Generator[None]:
        """Add the time of a block to the report's `seconds`."""
        start = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start

    def release(self) -> None:
        """Drop the model's weights: the builder needs the room (graphs are cyclic, so the collector is asked)."""
        from torch import nn

        self.model = replace(self.model, module=nn.Identity())
        trim_memory(cycles=True)


def prepare(
    model: str | nn.Module,
    target: str,
    recipe: str,
    pipeline: str | None,
    bounds: Mapping[str, float | None],
    batch: str,
    weights: str | Path,
    model_args: Mapping[str, Any] | None,
    preprocessing: PreprocessingOptions | None,
    calibration: tuple[str | None, int],
    evaluation: tuple[str | None, int | None],
    seed: int,
    progress: Progress,
    scratch: Path,
    drop_unprofitable_masks: bool,
    measured_layers: Path | None,
    backend: str | None,
) -> Job:
    """Open everything, the cheap things first, so that a mistake is told at once."""
    from vitgraph.backends.tensorrt.measured_kernels import read_measured_layers
    from vitgraph.compile.mask_profit import check_mask_profit
    from vitgraph.compile.recipe import load_recipe
    from vitgraph.pass_manager.pipeline import parse_pipeline
    from vitgraph.passes import find_pass
    from vitgraph.targets.target import get_target

    device, sizes, chosen = get_target(target), parse_batch(batch), load_recipe(recipe, find_pass)
    steps = chosen.pipeline if pipeline is None else parse_pipeline(pipeline, find_pass)
    steps = _bounded(steps, {name: value for name, value in bounds.items() if value is not None}, chosen.name)
    steps.check(device)
    measures, builds, unbuilt_why = _backends(backend, device)
    layers = None if measured_layers is None else read_measured_layers(measured_layers)
    if drop_unprofitable_masks or measured_layers is not None:
        check_mask_profit(steps, device, layers)
    needs_images = any(step.needs_images for step in steps.passes)
    if needs_images and calibration[0] is None:
        raise InputError(
            f"recipe {chosen.name} quantizes, which needs calibration images: give --calibration-data a folder, "
            "a .zip, or `random` for noise"
        )
    from vitgraph.frontend.models import load_model
    from vitgraph.images.image_set import open_images

    loaded = load_model(model, weights=weights, model_args=model_args, preprocessing=preprocessing, seed=seed)
    calibrate = evaluate = None
    if calibration[0] is not None:
        calibrate = open_images(calibration[0], loaded.preprocessing, limit=calibration[1], seed=seed)
    if evaluation[0] is not None:
        evaluate = open_images(evaluation[0], loaded.preprocessing, limit=evaluation[1], seed=seed)
        evaluate.check_labels(loaded.classes or 1_000_000)
    return Job(
        device, chosen, steps, sizes, loaded, calibrate, evaluate, progress, scratch,
        measures, builds, unbuilt_why, drop_unprofitable_masks or measured_layers is not None, layers,
    )  # fmt: skip


def _backends(name: str | None, target: Target) -> tuple[Backend, Builder, str | None]:
    """What measures, what builds, and why nothing is built; `InputError` where a backend that was asked for can't work."""
    from vitgraph.backends import DEFAULT_BUILDER, choose, find_builder, load_backend

    why = None if name is None else load_backend(name).refusal(target)
    if why is not None:
        raise InputError(f"--backend {name}: {why}")
    runner, builder = choose(name)
    if builder is None:
        return runner, find_builder(DEFAULT_BUILDER), f"--backend {name} runs models and builds no engine"
    return runner, builder, builder.refusal(target)


def _bounded(steps: Pipeline, bounds: dict[str, float], recipe: str) -> Pipeline:
    """The pipeline with `mixed-precision` under these bounds: a `mixed-precision` it has gets them, else one is put after what quantizes, ahead of `reconstruct`."""
    from vitgraph.pass_manager.pipeline import Pipeline
    from vitgraph.passes.precision.mixed_precision import MixedPrecision

    if not bounds:
        return steps
    names = [step.name for step in steps.passes]
    if "quantize" not in names:
        asked = ", ".join(f"{name}={value:g}" for name, value in bounds.items())
        raise InputError(
            f"{asked}: recipe {recipe} quantizes nothing, so there is nothing to place; take one such as int8"
        )
    if "mixed-precision" in names:
        bounded = [replace(step, **bounds) if step.name == "mixed-precision" else step for step in steps.passes]
        return Pipeline(tuple(bounded))
    after = 1 + max(i for i, name in enumerate(names) if name in ("quantize", "quantize-linear-attention"))
    placed: Any = MixedPrecision(**bounds)  # type: ignore[arg-type]
    return Pipeline((*steps.passes[:after], placed, *steps.passes[after:]))
