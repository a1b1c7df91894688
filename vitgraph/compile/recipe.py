"""Recipes: named pipelines with their settings, as YAML files; vitgraph's own are in `vitgraph/recipes`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml

from vitgraph.domains import shortened
from vitgraph.errors import InputError
from vitgraph.pass_manager.pipeline import Lookup, Pipeline, read_yaml
from vitgraph.reading import RECIPE, parse_yaml, read_text

KEYS = ("name", "description", "pipeline")
"""What a recipe's file may say."""


@dataclass(frozen=True)
class Recipe:
    """A pipeline under a name."""

    name: str
    description: str
    pipeline: Pipeline

    def to_yaml(self) -> str:
        """The recipe as a file that `load_recipe` reads back to the same passes with the same options."""
        content = {"name": self.name, "description": self.description, "pipeline": self.pipeline.to_yaml()}
        return str(yaml.safe_dump(content, sort_keys=False, width=110))  # pyright: ignore[reportUnknownMemberType]


def recipe_names() -> list[str]:
    """The recipes that come with vitgraph."""
    return names_in("vitgraph.compile")


def names_in(package: str) -> list[str]:
    """The files of a package's folder `recipes`, by their names."""
    files = resources.files(package).joinpath("recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def text_of(name: str, package: str, what: str) -> str:
    """The text of a package's recipe by its name, or of a YAML file; `InputError` where it is neither, with near names."""
    path, known = Path(name), names_in(package)
    if name in known:
        return read_text(resources.files(package).joinpath("recipes", f"{name}.yaml"), RECIPE)
    if path.suffix in (".yaml", ".yml"):
        return read_text(path, RECIPE)
    close = get_close_matches(name, known, 3, 0.4)
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(known)}"
    raise InputError(f"unknown {what} {name!r}; {hint} (or give a .yaml file)")


def load_recipe(name: str, lookup: Lookup) -> Recipe:
    """A recipe by its name, or from a YAML file; `InputError` says what is wrong with either."""
    path, text = Path(name), text_of(name, "vitgraph.compile", "recipe")
    return _parse(text, path.stem if path.suffix else name, lookup)


def _parse(text: str, name: str, lookup: Lookup) -> Recipe:
    content: Any = parse_yaml(text, f"recipe {name}")
    if not isinstance(content, dict) or "pipeline" not in content:
        raise InputError(f"recipe {name}: a recipe is a mapping with the key `pipeline`: a list of passes")
    try:
        return _of(cast(dict[str, Any], content), name, lookup)
    except InputError as error:
        raise InputError(f"recipe {name}: {error}") from error


def _of(given: Mapping[str, Any], name: str, lookup: Lookup) -> Recipe:
    unknown = [key for key in given if key not in KEYS]
    if unknown:
        raise InputError(f"unknown key {shortened(unknown[0])}; a recipe has name, description and pipeline")
    pipeline = read_yaml(given["pipeline"], lookup)
    if not pipeline.passes:
        raise InputError("there is no pass in its pipeline; name one, such as canonicalize")
    return Recipe(_text(given, "name", name), _text(given, "description", ""), pipeline)


def _text(given: Mapping[str, Any], key: str, default: str) -> str:
    """A name or description: text, or a number that stands for it."""
    value: object = given.get(key, default)
    if isinstance(value, list | dict):
        raise InputError(f"its {key} is {shortened(value)}; write a text")  # pyright: ignore[reportUnknownArgumentType]
    return str(value)
