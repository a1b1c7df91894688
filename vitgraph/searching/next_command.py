"""What to do with a recipe that a search left: the command line that compiles with it, or the line of Python."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.searching.request import SearchRequest

if TYPE_CHECKING:
    from vitgraph.images.preprocess import PreprocessingOptions


def next_command(request: SearchRequest, recipe: str, **options: Any) -> str:
    """How to compile with this recipe of the folder and these options, those of the model as they were.

    A command line where everything that was asked for has a name; else a line of Python, with what has none by its argument's.
    """
    given = [*_model_words(request), *options.items(), ("recipe", request.output.out / recipe)]
    given = [(name, value) for name, value in [*given, ("target", request.target_name)] if value is not None]
    spec = request.model.model
    if isinstance(spec, str | Path) and all(isinstance(value, str | int | Path) for _, value in given):
        words = (str(word) for name, value in given for word in (f"--{name.replace('_', '-')}", value))
        return shlex.join(["vitgraph", "compile", str(spec), *words])
    return _python_line(request, dict(given))


def _python_line(request: SearchRequest, given: dict[str, Any]) -> str:
    model = request.model
    given = {name: value for name, value in given.items() if name not in (*_IMAGE_OPTIONS, "model_args")}
    given |= {"model_args": model.model_args} if model.model_args else {}
    given |= {"preprocessing": model.preprocessing} if model.given_preprocessing() else {}
    said = [f"{name}={_shown(name, value)}" for name, value in given.items()]
    return f"vitgraph.compile_model({', '.join([_shown('model', model.model), *said])})"


def _shown(name: str, value: Any) -> str:
    if isinstance(value, str | Path):
        return repr(str(value))
    said = isinstance(value, int) or name in ("model_args", "preprocessing")
    return repr(value) if said else name


_IMAGE_OPTIONS = ("image_size", "mean", "std", "resize", "crop", "interpolation")


def _model_words(request: SearchRequest) -> Iterator[tuple[str, Any]]:
    """The options of the model, as the command line reads them."""
    model = request.model
    for name, value in model.model_args.items():
        yield "model_args", f"{name}={_literal(value)}"
    if model.preprocessing is not None:
        yield from ((name, _image_word(model.preprocessing, name)) for name in _IMAGE_OPTIONS)
    yield from (("batch", request.batch and str(request.batch)), ("seed", model.seed or None))


def _literal(value: Any) -> str:
    """A word where that is read back to the same, else a Python literal."""
    try:
        plain = isinstance(value, str) and ast.literal_eval(value) == value
    except (ValueError, SyntaxError):
        plain = True
    return str(value) if plain else repr(value)


def _image_word(options: PreprocessingOptions, name: str) -> str | None:
    value: Any = getattr(options, name)
    if not isinstance(value, tuple):
        return None if value is None else str(value)
    if name in ("mean", "std"):
        return ",".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType]
    return "x".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType]
