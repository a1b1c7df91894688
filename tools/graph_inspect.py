"""`vitgraph inspect`: what is in a model, a program, an ONNX file or a compilation."""

from __future__ import annotations

import fnmatch
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vitgraph.errors import InputError
from vitgraph.reading import ENGINE_REPORT, read_json
from vitgraph.tools.command import Answer, command, table
from vitgraph.tools.graph_cost import CostOptions, inspect_cost
from vitgraph.tools.graph_drawn import to_dot, to_text
from vitgraph.tools.graph_view import read_onnx, view_program
from vitgraph.tools.model_options import MODEL_HELP, ModelSettings, open_program
from vitgraph.tools.published_figures import show_published

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


def _cost(model: str | None, settings: ModelSettings, costs: CostOptions, node: str | None, form: Format) -> Answer:
    if node is not None or form is Format.DOT:
        raise InputError("--cost counts the whole graph, as text or JSON; leave out --node and --format dot")
    if costs.published:
        return show_published(model, costs.target, form is Format.JSON)
    if model is None:
        raise InputError(
            "--cost wants a MODEL to count, or --published to hold the cost model against published figures"
        )
    return inspect_cost(model, settings, costs.target, form is Format.JSON)


def _report(folder: Path, form: Format) -> Answer:
    from vitgraph.compile.report import read_report

    report = read_report(folder)
    data = json.loads(report.to_json())
    if form is Format.JSON:
        return Answer(data, report.to_json())
    from vitgraph.tools.compile_model import summary

    return Answer(data, summary(report, folder))


def _engine(file: Path, pattern: str | None, form: Format) -> Answer:
    """The layers of an engine, as its builder told them."""
    data = read_json(file, ENGINE_REPORT, nan=True)
    try:
        layers: list[dict[str, Any]] = data["layers"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: is no engine report: {error}; `vitgraph compile` writes engine.json") from error
    if form is Format.DOT:
        raise InputError(f"{file}: an engine report has no edges to draw; take --format text or json")
    if pattern is not None:
        layers = [layer for layer in layers if fnmatch.fnmatchcase(json.dumps(layer), f"*{pattern}*")]
    data["layers"] = layers
    rows = [[str(value) for value in layer.values()] for layer in layers]
    text = table([str(key) for key in (layers[0] if layers else {"layer": ""})], rows)
    return Answer(data, json.dumps(data, indent=2) if form is Format.JSON else text)
