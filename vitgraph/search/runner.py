"""A search from words to files: open and check what all methods need, let the method search, write what it found."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from vitgraph.compile.page import render
from vitgraph.compile.recipe import Recipe, load_recipe
from vitgraph.frontend.open_model import load
from vitgraph.ir.batch import ONE_IMAGE, Batch
from vitgraph.outputs import check_output, unfinished, whole_folder
from vitgraph.passes import find_pass
from vitgraph.targets.target import Target, get_target
from vitgraph.tools.model_options import ModelSettings
from vitgraph.tools.search_options import SiteSettings

if TYPE_CHECKING:
    from vitgraph.frontend.models import LoadedModel
    from vitgraph.images.image_set import ImageSet
    from vitgraph.tools.progress import Progress


@dataclass(frozen=True)
class Asked:
    """What the command line asks for, whatever the method."""

    model: str
    target: str
    budgets: tuple[str, ...]
    recipe: str | None
    evaluate: tuple[str | None, int | None]
    """Labelled images, and how many of them."""
    out: Path
    force: bool
    settings: ModelSettings
    sites: SiteSettings


@dataclass(frozen=True)
class Opened:
    """The same, opened and checked."""

    asked: Asked
    target: Target
    recipe: Recipe
    batch: Batch
    model: LoadedModel
    evaluation: ImageSet | None

    @property
    def quantizes(self) -> bool:
        """Whether the recipe does."""
        return any(step.name == "quantize" for step in self.recipe.pipeline.passes)


@dataclass(frozen=True)
class Found:
    """What a method found: its keys of `search.json`, and its own files by name."""

    data: dict[str, Any]
    files: dict[str, bytes]


class Method(Protocol):
    """A way to search."""

    name: ClassVar[str]
    recipe: ClassVar[str]
    """What is taken where no recipe is named."""

    @property
    def writes(self) -> bool:
        """Whether this process writes the folder: one of several does."""
        ...

    def check(self, asked: Asked) -> None:
        """Raise `InputError` for what the words alone show to be wrong."""
        ...

    def search(self, opened: Opened, progress: Progress) -> Found:
        """Search; `InputError` before any long work where something can't be had."""
        ...

    def draw(self, data: Mapping[str, Any], output: Path) -> Any:
        """The content of `search.json` for somebody to read, and what to type next."""
        ...


def run(asked: Asked, method: Method, progress: Progress) -> dict[str, Any]:
    """Search, and write the folder; the content of `search.json`."""
    start = time.perf_counter()
    check_output(asked.out, asked.force)
    method.check(asked)
    opened = _open(asked, method.recipe)
    found = method.search(opened, progress)
    data = {"vitgraph": version("vitgraph"), "method": method.name, **_describe(opened), **found.data}
    data["seconds"] = round(time.perf_counter() - start, 1)
    if method.writes:
        pages = {
            "search.json": json.dumps(data, indent=2) + "\n",
            "search.html": render(f"{method.name}.html.j2", found=data),
        }
        with whole_folder(asked.out, asked.force) as folder:
            for name, content in {**{name: text.encode() for name, text in pages.items()}, **found.files}.items():
                (folder / name).write_bytes(content)
        shutil.rmtree(unfinished(asked.out), ignore_errors=True)
    return data


def _open(asked: Asked, usual: str) -> Opened:
    """Open everything, the cheap things first, so that a mistake is told at once."""
    batch, target = asked.settings.sizes() or ONE_IMAGE, get_target(asked.target)
    recipe = load_recipe(asked.recipe or usual, find_pass)
    recipe.pipeline.check(target)
    model = load(asked.settings.request(asked.model))
    return Opened(asked, target, recipe, batch, model, _open_evaluation(asked, model))


def _open_evaluation(asked: Asked, model: LoadedModel) -> ImageSet | None:
    source, count = asked.evaluate
    if source is None:
        return None
    from vitgraph.images.image_set import open_images

    evaluation = open_images(source, model.preprocessing, limit=count, seed=asked.settings.seed)
    evaluation.check_labels(model.classes or 1_000_000)
    return evaluation


def _describe(opened: Opened) -> dict[str, Any]:
    """The keys of `search.json` that no method knows."""
    model, images = opened.model, opened.evaluation
    return {
        "model": {"name": model.name, "source": model.source, "weights": model.weights, "weights_sha256": model.weights_sha256},
        "target": opened.target.name,
        "recipe": opened.recipe.name,
        "evaluation": images and {"images": len(images), "source": images.source, "data_sha256": images.sha256},
        "evaluation_why": None if images else "no images to evaluate on; give --evaluate-data",
    }  # fmt: skip


def next_command(asked: Asked, recipe: str, **options: Any) -> str:
    """The command line that compiles with this recipe of the folder and these options, those of the model as they were."""
    settings = asked.settings
    given: list[tuple[str, Any]] = [("model-args", each) for each in settings.model_args]
    own = ("image_size", "mean", "std", "resize", "crop", "interpolation")
    given += [(name, getattr(settings, name)) for name in own]
    given += [("batch", settings.batch), ("seed", settings.seed or None)]
    given += [*options.items(), ("recipe", asked.out / recipe), ("target", asked.target)]
    words = (str(word) for name, value in given if value for word in (f"--{name.replace('_', '-')}", value))
    return shlex.join(["vitgraph", "compile", asked.model, *words])
