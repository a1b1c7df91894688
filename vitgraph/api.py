"""Quantizing and sparsifying for those who train on: a model and images in, a program that is called and trained out.

    q = vitgraph.quantize(model, loader)                # scales chosen, fake quantizers in the graph
    loss = criterion(q(images), labels)                 # gradients pass straight through them
    vitgraph.compile_model(q, target="a100", out="out")  # the engine, with the weights and the scales as they are now

Both run the head of a recipe: all of it but the passes that fix types and stored weights for an engine, which
`compile_model` runs when the training is done. Like `vitgraph/compile/compiler.py`, this file may look upward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from vitgraph.errors import InputError
from vitgraph.ir.batch import ANY_BATCH, Batch, BatchSizes, read_batch
from vitgraph.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vitgraph.compile.recipe import Recipe
    from vitgraph.frontend.models import LoadedModel
    from vitgraph.frontend.saved_programs import SavedModel
    from vitgraph.images.data_sources import Data
    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.ir.program import Program
    from vitgraph.pass_manager.pipeline import Pipeline
    from vitgraph.targets.target import Target


FOR_ENGINE = "assign-precision,materialize,legalize"
"""What compiles a program of `sparsify`: FP16, as in the recipes."""

MaskScore = Literal["magnitude", "wanda", "sparsegpt", "cap"]


def quantize(
    model: str | Path | nn.Module | Program,
    data: Data,
    preset: str | Path | Recipe | Pipeline = "int8",
    *,
    target: str | Path | Target | None = "a100",
    images: int | None = 64,
    example: Tensor | None = None,
    batch: BatchSizes | None = None,
    weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    preprocessing: PreprocessingOptions | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Program:
    """Calibrate a model on images and return it as a program with fake quantizers, which runs and trains.

    `model` is a module (which stays as it is), a model's name, a program (of `sparsify`, say) or where one was saved. `data` is
    a tensor, a list, an iterable of tensors or (tensor, label), a `DataLoader`, a `Dataset` or a path (see
    `vitgraph.images.data_sources`), of which `images` are taken. `preset` is a recipe's name or file, or passes; those for the
    engine are left to `compile_model`. `example`, a batch of the model's input, tells its shape where neither the model nor the data
    do. The program takes any batch unless `batch` says which. Raises `InputError` where something can't be had.
    """
    recipe = _recipe(preset)
    return _run_head(
        recipe, model, data, target, images, example, batch, (weights, model_args, preprocessing, seed), progress
    )


def sparsify(
    model: str | Path | nn.Module | Program,
    data: Data | None = None,
    pattern: str = "2:4",
    *,
    score: MaskScore = "magnitude",
    refit: bool = False,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    target: str | Path | Target | None = None,
    images: int | None = 64,
    example: Tensor | None = None,
    batch: BatchSizes | None = None,
    weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    preprocessing: PreprocessingOptions | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Program:
    """Put N:M masks on the linears of a model's blocks and return it as a program, which runs and trains under its masks.

    `pattern` is `N:M`, or `V:N:M` where V rows share their columns. `score` says which weights stay, `refit` fits them to what the
    dense linears output; both but `magnitude` look at `data`. `only` and `skip` choose linears by path or role. The rest is as
    `quantize` takes it. Raises `InputError` where something can't be had.
    """
    recipe = _mask_recipe(pattern, {"score": score, "refit": refit, "only": tuple(only), "skip": tuple(skip)})
    return _run_head(
        recipe, model, data, target, images, example, batch, (weights, model_args, preprocessing, seed), progress
    )


def _run_head(
    recipe: Recipe,
    model: str | Path | nn.Module | Program,
    data: Data | None,
    target: str | Path | Target | None,
    images: int | None,
    example: Tensor | None,
    batch: BatchSizes | None,
    making: tuple[Any, ...],
    progress: Progress,
) -> Program:
    """Open everything, and run what of the recipe is not for the engine."""
    from vitgraph.compile.arguments import read_count, read_model, read_target
    from vitgraph.compile.inputs import open_inputs, probe
    from vitgraph.compile.request import DataRequest
    from vitgraph.frontend.open_model import open_saved
    from vitgraph.images.calibration_data import UnopenedImages
    from vitgraph.ir.tensor_names import restore_names, trained_names
    from vitgraph.pass_manager.continuation import remaining
    from vitgraph.pass_manager.instruments import Compare, Verify
    from vitgraph.pass_manager.pass_contract import Context

    request, device = read_model(model, *making), None if target is None else read_target(target)
    saved = open_saved(request)
    steps = trainable_head(recipe.pipeline)
    steps = steps if saved is None else remaining(steps, saved.program)
    steps.check(device, None if data is None else UnopenedImages())
    asked = None if batch is None else read_batch(batch)
    shape = None if example is None else tuple(example.shape[1:])
    inputs = open_inputs(request, DataRequest(data, read_count("images", images)), asked, saved, shape)
    sizes = inputs.batch if asked is not None or _is_fixed(inputs.model) else ANY_BATCH
    captured = _capture(inputs.model, sizes, asked)
    names = trained_names(captured)
    context = Context(device, [probe(inputs.calibration, inputs.model, sizes)], inputs.calibration, progress)
    program = steps.run(captured, context, [Verify(), Compare()])
    program.own_tensors()
    restore_names(program, names)
    program.provenance["recipe"] = {"name": recipe.name, "pipeline": str(recipe.pipeline)}
    return program


def trainable_head(pipeline: Pipeline) -> Pipeline:
    """The passes ahead of the first that is for the engine alone."""
    from vitgraph.pass_manager.pipeline import Pipeline

    end = next((at for at, step in enumerate(pipeline.passes) if step.for_engine), len(pipeline.passes))
    return Pipeline(pipeline.passes[:end])


def _is_fixed(model: LoadedModel | SavedModel) -> bool:
    from vitgraph.frontend.saved_programs import SavedModel, takes_any_batch

    return isinstance(model, SavedModel) and not takes_any_batch(model.program)


def _capture(model: LoadedModel | SavedModel, sizes: Batch, asked: Batch | None) -> Program:
    from vitgraph.frontend.open_model import program_of

    try:
        return program_of(model, sizes)
    except InputError as error:
        hint = "" if asked else " (for any batch: len(x), unlike x.shape[0], fixes it; or give `batch`, as in batch=8)"
        raise InputError(f"{error}{hint}") from error


def _recipe(preset: str | Path | Recipe | Pipeline) -> Recipe:
    from vitgraph.compile.arguments import read_recipe, read_steps
    from vitgraph.compile.recipe import Recipe, recipe_names
    from vitgraph.passes import find_pass

    if isinstance(preset, Recipe | Path) or preset in recipe_names() or str(preset).endswith((".yaml", ".yml")):
        return read_recipe(cast("str | Path | Recipe", preset), find_pass)
    return Recipe("these passes", "", read_steps(preset, find_pass))


def _mask_recipe(pattern: str, options: dict[str, Any]) -> Recipe:
    from vitgraph.compile.recipe import Recipe
    from vitgraph.pass_manager.pipeline import Pipeline, build_pass, parse_pipeline
    from vitgraph.passes import find_pass
    from vitgraph.passes.prepared import PREPARED

    parts = pattern.split(":")
    if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
        raise InputError(f"pattern {pattern!r}: write N:M, as in 2:4, or V:N:M, as in 64:2:8")
    sizes = dict(zip(("m", "n", "v"), map(int, reversed(parts)), strict=False))
    mask = build_pass("nm-mask", sizes | options, find_pass)
    head, tail = (parse_pipeline(text, find_pass).passes for text in (f"{PREPARED},softmax-check", FOR_ENGINE))
    return Recipe(f"a {pattern} mask", "", Pipeline((*head, mask, *tail)))
