"""`vitgraph inspect`: what is in a model, a program, an ONNX file or a compilation."""

from __future__ import annotations

import fnmatch
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.errors import InputError
from vitgraph.tools.command import Answer, command
from vitgraph.tools.drawing import group
from vitgraph.tools.graph_cost import CostOptions, inspect_cost
from vitgraph.tools.graph_drawn import to_dot, to_text
from vitgraph.tools.graph_view import read_onnx, view_program
from vitgraph.tools.model_options import MODEL_HELP, ModelSettings, open_program
from vitgraph.tools.published_figures import show_published

if TYPE_CHECKING:
    from vitgraph.compile.report import Report

INSPECT_HELP = MODEL_HELP + " Or a saved program, MODEL.onnx, engine.json, or a folder that `vitgraph compile` wrote."


class Format(StrEnum):
    """How the answer is written."""

    TEXT = "text"
    JSON = "json"
    DOT = "dot"


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "inspect")(inspect_graph)


def inspect_graph(
    settings: ModelSettings,
    costs: CostOptions,
    model: Annotated[str | None, typer.Argument(metavar="MODEL|PROGRAM|FILE|OUT", help=INSPECT_HELP)] = None,
    form: Annotated[
        Format, typer.Option("--format", help="text: facts and one line a node; dot: for Graphviz.")
    ] = Format.TEXT,
    node: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only nodes whose name, operator or module path matches.")
    ] = None,
) -> Answer:
    """Show a graph: its facts, its sites and its nodes; of a compilation's folder, the report."""
    if costs.cost:
        return _cost(model, settings, costs, node, form)
    if costs.given():
        raise InputError(f"{', '.join(costs.given())}: belongs to --cost; give that too, or leave it out")
    if model is None:
        raise InputError("inspect wants a MODEL, a program, a file or a folder to look at")
    path = Path(model)
    if path.is_dir() and (path / "report.json").is_file() and node is None and form is not Format.DOT:
        return _report(path, form)
    if path.name in ("report.json", "engine.json") and path.is_file():
        return _report(path.parent, form) if path.name == "report.json" else _engine(path, node, form)
    _check_kind(path)
    if path.suffix == ".onnx":
        view = read_onnx(path)
    else:
        from vitgraph.frontend.saved_programs import program_file, read_program

        view = view_program(read_program(path) if program_file(path) else open_program(model, settings))
    if node is not None:
        view = view.keep(node)
    data = {"name": view.name, **view.facts, "nodes": view.nodes}
    if form is Format.JSON:
        return Answer(data, json.dumps(data, indent=2))
    if form is Format.DOT:
        dot = to_dot(view)
        return Answer(data | {"dot": dot}, dot)
    return Answer(data, to_text(view, facts=node is None))


def _check_kind(path: Path) -> None:
    """Raise `InputError` for files of vitgraph that are no graphs."""
    if path.name == "search.json" or (path / "search.json").is_file():
        raise InputError(f"{path} is of a search: open its search.html, and compile with its recipe")
    if path.suffix in (".yaml", ".yml") and path.is_file():
        raise InputError(f"{path} is no graph; a recipe goes to --recipe or --pipeline, a target to --target")
    if path.suffix in (".json", ".plan", ".html", ".log") and path.is_file():
        raise InputError(
            f"{path} is no graph; give the folder of `vitgraph compile`, its model.onnx, or its engine.json"
        )


def _cost(model: str | None, settings: ModelSettings, costs: CostOptions, node: str | None, form: Format) -> Answer:
    if node is not None or form is Format.DOT:
        raise InputError("--cost counts the whole graph, as text or JSON; leave out --node and --format dot")
    if costs.published:
        if costs.measured is not None:
            raise InputError("--published has its own measurements; leave out --measured")
        return show_published(model, costs.target, form is Format.JSON)
    if model is None:
        raise InputError(
            "--cost wants a MODEL to count, or --published to hold the cost model against published figures"
        )
    return inspect_cost(model, settings, costs, form is Format.JSON)


def _report(folder: Path, form: Format) -> Answer:
    from vitgraph.compile.report import read_report

    report = read_report(folder)
    _put_measured(report, folder)
    data = json.loads(report.to_json())
    if form is Format.JSON:
        return Answer(data, report.to_json())
    from vitgraph.tools.compile_model import summary
    from vitgraph.tools.drawn_plan import draw_sites, is_cuda

    sites = [draw_sites(report.engine)] if report.engine is not None and is_cuda(report.engine) else []
    return Answer(data, group(summary(report, folder), *sites))


def _put_measured(report: Report, folder: Path) -> None:
    """Into what the report says of a plan's sites, the times of measured.json where one lies in the folder."""
    from vitgraph.backends.cuda.measured_sites import with_measured
    from vitgraph.cost.measured_files import NAME, read_measured
    from vitgraph.ir.batch import parse_batch
    from vitgraph.tools.drawn_plan import is_cuda

    engine = report.engine
    if engine is not None and is_cuda(engine) and (folder / NAME).is_file():
        measured = read_measured(folder / NAME)
        sites = with_measured(engine["sites"], measured, parse_batch(engine["batch"]).best)
        report.engine = {**engine, "sites": sites, "measured_on": measured.device.card}


def _engine(file: Path, pattern: str | None, form: Format) -> Answer:
    """The layers of an engine, as its builder told them."""
    from vitgraph.reading import ENGINE_REPORT, read_json
    from vitgraph.tools.drawn_engine import draw_engine, read_engine

    if form is Format.DOT:
        raise InputError(f"{file}: an engine report has no edges to draw; take --format text or json")
    data = read_json(file, ENGINE_REPORT, nan=True)
    engine = read_engine(data, str(file))
    chosen = [at for at, each in enumerate(data["layers"]) if pattern is None or _names(each, pattern)]
    if not chosen:
        raise InputError(f"--node {pattern!r} matches none of the {len(engine.layers)} layers of {file}")
    data = {**data, "layers": [data["layers"][at] for at in chosen]}
    drawn = draw_engine(engine, [engine.layers[at] for at in chosen])
    return Answer(data, json.dumps(data, indent=2) if form is Format.JSON else drawn)


def _names(layer: dict[str, Any], pattern: str) -> bool:
    """Whether the glob matches anything that is said of a layer."""
    return fnmatch.fnmatchcase(json.dumps(layer), f"*{pattern}*")
