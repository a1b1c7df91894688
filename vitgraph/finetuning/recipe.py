"""Training recipes: stages, each of passes and of how what they leave is trained; then the passes for the engine.

    description: …
    stages:
      - name: sparse
        passes: [canonicalize, fuse-attention, {nm-mask: {n: 2, m: 4}}]
        training: {epochs: 10, lr: 5e-4}
    engine: [assign-precision, materialize, legalize]

Those of vitgraph are in `vitgraph/finetuning/recipes`. What `training` may set is in `vitgraph.training.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vitgraph.compile.recipe import names_in, text_of
from vitgraph.domains import shortened
from vitgraph.errors import InputError
from vitgraph.pass_manager.pipeline import Lookup, Pipeline, read_yaml
from vitgraph.reading import parse_yaml
from vitgraph.training.settings import Settings

_KEYS, _STAGE_KEYS = ("name", "description", "stages", "engine"), ("name", "passes", "training")


@dataclass(frozen=True)
class Stage:
    """Passes, and how their program is trained."""

    name: str
    passes: Pipeline
    settings: Settings


@dataclass(frozen=True)
class TrainingRecipe:
    """Stages, and what makes an engine of the last one's program."""

    name: str
    description: str
    stages: tuple[Stage, ...]
    engine: Pipeline

    def with_values(self, values: Mapping[str, Any], by_stage: Mapping[str, Mapping[str, Any]]) -> TrainingRecipe:
        """The same with these settings in every stage, and those of one stage by its name; `InputError` where something is unknown."""
        names = [stage.name for stage in self.stages]
        for name in by_stage:
            if name not in names:
                raise InputError(f"recipe {self.name}: has no stage {shortened(name)}; it has {', '.join(names)}")
        stages = [
            replace(stage, settings=stage.settings.with_values({**values, **by_stage.get(stage.name, {})}))
            for stage in self.stages
        ]
        return replace(self, stages=tuple(stages))

    def to_yaml(self) -> str:
        """A file that `load_training_recipe` reads back to the same."""
        stages = [
            {"name": stage.name, "passes": stage.passes.to_yaml(), "training": stage.settings.plain()}
            for stage in self.stages
        ]
        content = {"name": self.name, "description": self.description, "stages": stages, "engine": self.engine.to_yaml()}  # fmt: skip
        return str(yaml.safe_dump(content, sort_keys=False, width=110))  # pyright: ignore[reportUnknownMemberType]


def training_recipe_names() -> list[str]:
    """The training recipes that come with vitgraph."""
    return names_in("vitgraph.finetuning")


def load_training_recipe(name: str, lookup: Lookup) -> TrainingRecipe:
    """A training recipe by its name, or from a YAML file; `InputError` says what is wrong with either."""
    path, text = Path(name), text_of(name, "vitgraph.finetuning", "training recipe")
    try:
        return _parse(parse_yaml(text, f"training recipe {name}"), path.stem if path.suffix else name, lookup)
    except InputError as error:
        raise InputError(f"training recipe {name}: {error}") from error


def _parse(content: Any, name: str, lookup: Lookup) -> TrainingRecipe:
    given = _mapping(content, _KEYS, "a training recipe")
    stages = given.get("stages")
    if not isinstance(stages, list) or not stages:
        raise InputError("there is no stage in it; `stages` is a list of mappings with name, passes and training")
    listed: list[Any] = stages  # pyright: ignore[reportUnknownVariableType]
    found = [_stage(each, place, lookup) for place, each in enumerate(listed, start=1)]
    names = [stage.name for stage in found]
    if len(set(names)) < len(names):
        raise InputError(f"stages are called {', '.join(names)}; give each a name of its own")
    return TrainingRecipe(
        str(given.get("name", name)),
        str(given.get("description", "")),
        tuple(found),
        read_yaml(given.get("engine", []), lookup),
    )


def _stage(content: Any, place: int, lookup: Lookup) -> Stage:
    given = _mapping(content, _STAGE_KEYS, f"stage {place}")
    settings = _mapping(given.get("training") or {}, None, f"training of stage {place}")
    passes = read_yaml(given.get("passes") or [], lookup)
    return Stage(str(given.get("name", f"stage{place}")), passes, Settings().with_values(settings))


def _mapping(content: Any, known: tuple[str, ...] | None, what: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        keys = f" with {', '.join(known)}" if known else ""
        raise InputError(f"{what} is a mapping{keys}; got {shortened(content)}")
    given: dict[Any, Any] = content  # pyright: ignore[reportUnknownVariableType]
    unknown = [key for key in given if not isinstance(key, str) or (known is not None and key not in known)]
    if unknown:
        raise InputError(f"unknown key {shortened(unknown[0])} of {what}; it has {', '.join(known or ())}")
    return given
