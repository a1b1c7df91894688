"""What Python code hands to `compile_model` and `search`, brought to one form each; a bad value is told by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vitgraph.compile.recipe import Recipe, load_recipe, recipe_names
from vitgraph.compile.request import PrecisionBounds
from vitgraph.domains import ImageCount, Points, Seed, hold, hold_fields, shortened
from vitgraph.errors import InputError
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.pass_manager.pipeline import Lookup, Pipeline, parse_pipeline
from vitgraph.targets.target import Target, get_target

if TYPE_CHECKING:
    from torch import nn

    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.ir.program import Program


def read_model(
    model: str | Path | nn.Module | Program,
    weights: str | Path | None,
    model_args: Mapping[str, Any] | None,
    preprocessing: PreprocessingOptions | None,
    seed: int,
) -> ModelRequest:
    """The model, and how it is made."""
    from torch import nn

    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.ir.program import Program

    _check("model", model, str | Path | nn.Module | Program, "a model's name, an nn.Module, a Program or its path")
    _check("weights", weights, str | Path | None, "'pretrained', 'random' or a file")
    _check("model_args", model_args, Mapping | None, "a mapping such as {'num_classes': 10}")
    _check(
        "preprocessing", preprocessing, PreprocessingOptions | None, "PreprocessingOptions(image_size=(224, 224), …)"
    )
    return ModelRequest(model, weights, dict(model_args or {}), preprocessing, hold("seed", Seed, seed, strict=True))


def read_path(name: str, path: str | Path) -> Path:
    """A path, also where it is written as text."""
    _check(name, path, str | Path, "a path")
    return Path(path)


def read_target(target: str | Path | Target) -> Target:
    """A target by its name or file, or one that is at hand."""
    _check("target", target, str | Path | Target, "a target's name, its .yaml file or get_target(…)")
    return target if isinstance(target, Target) else get_target(str(target))


def read_recipe(recipe: str | Path | Recipe, lookup: Lookup) -> Recipe:
    """A recipe by its name or file, or one that is at hand."""
    _check("recipe", recipe, str | Path | Recipe, "a recipe's name or its .yaml file")
    return recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe), lookup)


def read_own_recipe(model: object, lookup: Lookup) -> Recipe:
    """The recipe that a program of `quantize`, `sparsify` or `train` has been through the head of, or one where such was saved."""
    from vitgraph.frontend.saved_programs import program_at
    from vitgraph.ir.program_file import read_provenance

    file = program_at(Path(model)) if isinstance(model, str | Path) else None
    known: Any = getattr(model, "provenance", {}) if file is None else read_provenance(file)
    own: Any = known.get("recipe")
    if own is None:
        raise InputError(
            "recipe: give one, such as int8 (`vitgraph recipes` lists them); only a program of quantize, sparsify or train "
            f"knows its own, and this is {shortened(str(model)) if isinstance(model, str | Path) else type(model).__name__}"
        )
    return Recipe(own["name"], "", parse_pipeline(own["pipeline"], lookup))


def read_steps(pipeline: str | Path | Pipeline, lookup: Lookup) -> Pipeline:
    """A pipeline's text, a recipe's name or file, or a pipeline that is at hand."""
    _check("pipeline", pipeline, str | Path | Pipeline, "passes as text, or read_pipeline(…)")
    if isinstance(pipeline, Pipeline):
        return pipeline
    text = str(pipeline)
    named = text in recipe_names() or text.endswith((".yaml", ".yml"))
    return load_recipe(text, lookup).pipeline if named else parse_pipeline(text, lookup)


def read_backend(name: str | None) -> str | None:
    """A backend's name, or None for the usual ones."""
    _check("backend", name, str | None, "a backend's name (`vitgraph doctor` lists them)")
    return name


def read_count(name: str, count: int | None) -> int | None:
    """How many images are taken, or None for all."""
    return cast("int | None", hold(name, ImageCount | None, count, strict=True))


def read_points(name: str, points: float) -> float:
    """Points of accuracy."""
    return cast(float, hold(name, Points, points, strict=True))


def read_bounds(**bounds: float | None) -> PrecisionBounds:
    """What `mixed-precision` is held to."""
    given: Any = bounds
    held = PrecisionBounds(**given)
    hold_fields(held)
    return held


def read_words(name: str, words: str | Sequence[str]) -> tuple[str, ...]:
    """One word or several."""
    _check(name, words, str | Sequence, "a word or a list of words")
    return (words,) if isinstance(words, str) else tuple(words)


def _check(name: str, value: object, kind: Any, remedy: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool)):
        raise InputError(f"{name}={shortened(value)} is of type {type(value).__name__}; give {remedy}")
