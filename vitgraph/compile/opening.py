"""A request, opened and checked before any work is done: cheap things first, so that a mistake is told at once.

Like `vitgraph/compile/compiler.py`, this file may look upward: it reads engines' layers and places a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.compile.inputs import check_fp32, open_inputs
from vitgraph.compile.request import CompileRequest, PrecisionBounds
from vitgraph.errors import InputError
from vitgraph.ir.batch import Batch
from vitgraph.outputs.destination import check_folder
from vitgraph.outputs.workspace import parts_of
from vitgraph.progress import Progress

if TYPE_CHECKING:
    from vitgraph.compile.mask_profit import Evidence
    from vitgraph.compile.recipe import Recipe
    from vitgraph.frontend.models import ModelFacts
    from vitgraph.frontend.open_model import Handover
    from vitgraph.images.image_set import ImageSet
    from vitgraph.pass_manager.pipeline import Pipeline
    from vitgraph.runtime.backend import Backend, Builder
    from vitgraph.targets.target import Target


QUANTIZING = frozenset({"quantize", "quantize-linear-attention"})
FROM_FP32 = QUANTIZING | {"assign-precision"}
"""Passes that choose number formats: on a program that has some already they would choose from rounded values."""


@dataclass(frozen=True)
class OpenedRequest:
    """Everything a compilation works with."""

    target: Target
    recipe: Recipe
    pipeline: Pipeline
    """The recipe's or another, with the bounds in it."""
    batch: Batch
    model: ModelFacts
    weights: Handover
    """The model itself, for whoever takes it first."""
    calibration: ImageSet | None
    evaluation: ImageSet | None
    progress: Progress
    scratch: Path
    """Where long work keeps what it has finished."""
    runner: Backend
    """What measures accuracy."""
    builder: Builder
    """What the engine is planned by, and built by unless `unbuilt_why` says why not."""
    unbuilt_why: str | None
    judges_masks: bool
    """Whether masks that buy no time are dropped."""
    evidence: Evidence | None
    """What was measured on the device (see `vitgraph.compile.mask_profit`)."""
    warnings: tuple[str, ...] = ()
    """What to tell of the request in the report."""


def open_request(request: CompileRequest, progress: Progress) -> OpenedRequest:
    """Open everything that a request names; `InputError` where something asked for can't be had."""
    from vitgraph.compile.mask_profit import check_mask_profit
    from vitgraph.frontend.open_model import Handover, open_saved
    from vitgraph.frontend.saved_programs import QUANTIZED, lowered
    from vitgraph.images.calibration_data import UnopenedImages
    from vitgraph.pass_manager.continuation import remaining

    output = request.output
    check_folder(output.out, output.force, output.inputs)
    recipe, target, masks, data = request.recipe, request.target, request.masks, request.data
    steps = bounded(request.pipeline or recipe.pipeline, request.bounds, recipe.name)
    saved = open_saved(request.model)
    state = None if saved is None else lowered(saved.program)
    if saved is not None and request.pipeline is None and state in (None, QUANTIZED):
        steps = remaining(steps, saved.program)
    steps.check(target, None if data.calibration is None else UnopenedImages())
    runner, builder, unbuilt_why = _backends(request.backend, target)
    evidence, warnings = (None, ()) if masks.measured is None else read_evidence(masks.measured, target)
    if masks.judged:
        check_mask_profit(steps, target, evidence, masks.drop_unprofitable)
    opened = open_inputs(request.model, data, request.batch, saved)
    again = [step.name for step in steps.passes if step.name in (QUANTIZING if state == QUANTIZED else FROM_FP32)]
    if again:
        check_fp32(
            opened.model,
            f"recipe {recipe.name} ({', '.join(again)})",
            ", or name the passes that are left with --pipeline",
        )
    return OpenedRequest(
        target=target,
        recipe=recipe,
        pipeline=steps,
        batch=opened.batch,
        model=opened.model.facts(),
        weights=Handover(opened.model),
        calibration=opened.calibration,
        evaluation=opened.evaluation,
        progress=progress,
        scratch=parts_of(output.out),
        runner=runner,
        builder=builder,
        unbuilt_why=unbuilt_why,
        judges_masks=masks.judged,
        evidence=evidence,
        warnings=warnings,
    )


def read_evidence(place: Path, target: Target) -> tuple[Evidence, tuple[str, ...]]:
    """What `--measured` names, by its content: times of products, or layers of an engine; and what to warn of.

    `InputError` where it is neither, or was measured on what is not the target.
    """
    from vitgraph.backends.tensorrt.measured_kernels import read_measured_layers
    from vitgraph.cost.measured_files import check_card, open_measured
    from vitgraph.cost.measured_times import MeasuredTimes
    from vitgraph.cost.roofline import Roofline, roofline

    origin = f"--measured {place}"
    measured = open_measured(place, origin)
    if measured is None:
        return read_measured_layers(place), ()
    warning, line = check_card(measured.device, target, origin), roofline(target)
    if not isinstance(line, Roofline):
        raise InputError(f"{origin}: no time can be estimated for {target.name} beside what was measured: {line}")
    return MeasuredTimes(line, measured), () if warning is None else (warning,)


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


def bounded(steps: Pipeline, bounds: PrecisionBounds, recipe: str) -> Pipeline:
    """The pipeline with `mixed-precision` under these bounds: a `mixed-precision` it has gets them, else one is put after what quantizes, ahead of `reconstruct`."""
    given = bounds.given()
    if not given:
        return steps
    if not quantizes(steps):
        asked = ", ".join(f"{name}={value:g}" for name, value in given.items())
        raise InputError(
            f"{asked}: recipe {recipe} quantizes nothing, so there is nothing to place; take one such as int8"
        )
    return with_placement(steps, given)


def quantizes(steps: Pipeline) -> bool:
    """Whether a pipeline has the pass `quantize`, after which `mixed-precision` has something to choose from."""
    return any(step.name == "quantize" for step in steps.passes)


def with_placement(steps: Pipeline, given: Mapping[str, Any]) -> Pipeline:
    """The pipeline with these options in its `mixed-precision`; where it has none, one is put after what quantizes."""
    from vitgraph.pass_manager.pipeline import Pipeline
    from vitgraph.passes.precision.mixed_precision import MixedPrecision

    names = [step.name for step in steps.passes]
    if "mixed-precision" in names:
        passes = [replace(step, **given) if step.name == "mixed-precision" else step for step in steps.passes]
        return Pipeline(tuple(passes))
    after = 1 + max(i for i, name in enumerate(names) if name in ("quantize", "quantize-linear-attention"))
    placed: Any = MixedPrecision(**given)
    return Pipeline((*steps.passes[:after], placed, *steps.passes[after:]))
