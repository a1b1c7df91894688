"""A search from a request to files: open and check what all methods need, let the method search, write what it found.

Like `vitgraph/compile/compiler.py`, this file may look upward: it finds the passes of a recipe by name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.compile.request import DataRequest, OutputRequest
from vitgraph.errors import InputError
from vitgraph.ir.batch import BatchSizes, read_batch
from vitgraph.outputs.destination import check_folder
from vitgraph.outputs.whole_folder import whole_folder
from vitgraph.progress import Progress, silent
from vitgraph.searching.budget import read_limit
from vitgraph.searching.method import Method, OpenedSearch
from vitgraph.searching.request import SearchRequest

if TYPE_CHECKING:
    from torch import nn

    from vitgraph.compile.recipe import Recipe
    from vitgraph.images.data_sources import Data
    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.ir.program import Program
    from vitgraph.searching.elsa import Elsa
    from vitgraph.targets.target import Target

METHODS: Mapping[str, str] = {
    # name: its class                                        # what it chooses
    "elsa": "vitgraph.searching.elsa_method:ElsaMethod",  # an N:M level for each linear, by a supernet and evolution
    "lpvit": "vitgraph.searching.lpvit_method:LpvitMethod",  # tiles, or units, that each linear loses, by equal slopes
}

TIMED = ("search.json", "search.html")
"""The files of a search that hold times, and so differ from run to run."""


@dataclass(frozen=True)
class SearchResult:
    """What a search left: the content of `search.json`, and its own files beside it."""

    out: Path
    data: dict[str, Any]
    files: tuple[str, ...]

    @property
    def recipes(self) -> tuple[Path, ...]:
        """What `compile_model` takes: one recipe, or one for each budget."""
        return tuple(self.out / name for name in self.files if name.endswith(".yaml"))

    @property
    def weights(self) -> Path | None:
        """What goes with the recipe, where the method trained."""
        return next((self.out / name for name in self.files if name.endswith(".safetensors")), None)


def search(
    model: str | Path | nn.Module | Program,
    data: Data | None = None,
    *,
    method: str = "elsa",
    target: str | Path | Target,
    budget: str | Sequence[str],
    out: str | Path,
    images: int | None = None,
    recipe: str | Path | Recipe | None = None,
    weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    preprocessing: PreprocessingOptions | None = None,
    evaluate_data: Data | None = None,
    evaluate_images: int | None = None,
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    batch: BatchSizes | None = None,
    elsa: Elsa | None = None,
    accelerate: bool = False,
    force: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> SearchResult:
    """Choose how much of each linear stays within a budget; recipe and report go to `out`, whole or not at all.

    `data` are images to train with (`elsa`) or to calibrate with (`lpvit`), `images` of them at most. A budget is written as on the command
    line: `2.9x`, `6.06G`, `0.8ms`, `12mJ`; `lpvit` takes several. `elsa` are its settings. Model, target, recipe and batch are as
    `compile_model` takes them, and a module that is handed in stays as it is. Raises `InputError` before any long work where something
    can't be had.
    """
    from vitgraph.compile.arguments import (
        read_count,
        read_model,
        read_path,
        read_recipe,
        read_target,
        read_words,
    )
    from vitgraph.compile.files_read import files_read
    from vitgraph.passes import find_pass

    kind, budgets = find_method(method), read_words("budget", budget)
    for each in budgets:
        read_limit(each)
    data_request: dict[str, Any] = {
        kind.looks_at: data,
        f"{kind.looks_at}_images": kind.images if images is None else read_count("images", images),
    }
    request = SearchRequest(
        method=method,
        model=read_model(model, weights, model_args, preprocessing, seed),
        target=read_target(target),
        target_name=str(target) if isinstance(target, str | Path) else target.name,
        budgets=budgets,
        output=OutputRequest(
            read_path("out", out),
            force,
            files_read(model, (target, recipe), (data, weights, evaluate_data), model_args),
        ),
        data=DataRequest(
            evaluation=evaluate_data, evaluation_images=read_count("evaluate_images", evaluate_images), **data_request
        ),
        recipe=None if recipe is None else read_recipe(recipe, find_pass),
        batch=None if batch is None else read_batch(batch),
        only=read_words("only", only),
        skip=read_words("skip", skip),
        elsa=elsa,
        accelerate=accelerate,
    )
    return run_search(request, progress)


def find_method(name: str) -> type[Method]:
    """A method by its name; `InputError` for one that is not known."""
    if name not in METHODS:
        close = get_close_matches(name, METHODS, 1, 0.4)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(METHODS)}"
        raise InputError(f"there is no method {name!r} to search by; {hint}")
    module, _, attribute = METHODS[name].partition(":")
    found: type[Method] = getattr(import_module(module), attribute)
    return found


def run_search(request: SearchRequest, progress: Progress = silent) -> SearchResult:
    """Do what the request asks for; see `search`."""
    start = time.perf_counter()
    output, method = request.output, find_method(request.method)(request)
    check_folder(output.out, output.force, output.inputs)
    method.check()
    opened = _open(request, method)
    with _folder(method, output) as folder:
        found = method.search(opened, progress)
        data = {"vitgraph": version("vitgraph"), "method": method.name, **_describe(opened), **found.data}
        data["seconds"] = round(time.perf_counter() - start, 1)
        if folder is not None:
            _write(method.name, data, found.files, folder)
    return SearchResult(output.out, data, tuple(found.files))


def _open(request: SearchRequest, method: Method) -> OpenedSearch:
    """Open everything, the cheap things first, so that a mistake is told at once."""
    from vitgraph.compile.inputs import check_fp32, open_inputs
    from vitgraph.compile.recipe import load_recipe
    from vitgraph.images.calibration_data import UnopenedImages
    from vitgraph.passes import find_pass

    recipe = request.recipe or load_recipe(method.recipe, find_pass)
    recipe.pipeline.check(request.target, UnopenedImages())  # those of the compilation to come
    inputs = open_inputs(request.model, request.data, request.batch)
    check_fp32(inputs.model, f"--method {method.name}")
    return OpenedSearch(request, recipe, inputs)


def _describe(opened: OpenedSearch) -> dict[str, Any]:
    """The keys of `search.json` that no method knows."""
    model, images = opened.inputs.model, opened.inputs.evaluation
    return {
        "model": {"name": model.name, "source": model.source, "weights": model.weights, "weights_sha256": model.weights_sha256},
        "target": opened.request.target.name,
        "recipe": opened.recipe.name,
        "evaluation": images and {"images": len(images), "source": images.source, "data_sha256": images.sha256},
        "evaluation_why": None if images else "no images to evaluate on; give --evaluate-data",
    }  # fmt: skip


@contextmanager
def _folder(method: Method, output: OutputRequest) -> Generator[Path | None]:
    """The folder to write, for the one process that does."""
    if not method.writes:
        yield None
        return
    with whole_folder(output.out, output.force, TIMED) as folder:
        yield folder


def _write(method: str, data: Mapping[str, Any], files: Mapping[str, bytes], folder: Path) -> None:
    """`search.json` and its page beside the method's files."""
    from vitgraph.compile.page import render

    pages = {
        "search.json": json.dumps(data, indent=2) + "\n",
        "search.html": render(f"{method}.html.j2", found=data),
    }
    for name, content in {**{name: text.encode() for name, text in pages.items()}, **files}.items():
        (folder / name).write_bytes(content)
