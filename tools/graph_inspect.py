"""`vitgraph inspect`: what is in a model, a program, an ONNX file or a compilation."""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.errors import InputError
from vitgraph.tools.command import Answer, command, table
from vitgraph.tools.graph_cost import CostOptions, inspect_cost
from vitgraph.tools.model_options import MODEL_HELP, ModelSettings, open_program, program_file, read_program
from vitgraph.tools.published_figures import show_published

if TYPE_CHECKING:
    from vitgraph.program import Program

INSPECT_HELP = MODEL_HELP + " Or a saved program, MODEL.onnx, engine.json, or a folder that `vitgraph compile` wrote."


class Format(StrEnum):
    """How the answer is written."""

    TEXT = "text"
    JSON = "json"
    DOT = "dot"


@dataclass(frozen=True)
class View:
    """A graph as it is shown, whatever it was read from."""

    name: str
    facts: dict[str, Any]
    nodes: list[dict[str, Any]]
    """Each has name, operator, type, path, and `inputs`: the names of the nodes it reads."""
    text: list[str] = field(default_factory=list[str])
    """A line for each node; empty where there is no better one than its parts."""

    def keep(self, pattern: str) -> View:
        """Only the nodes whose name, operator or module path the glob matches; `InputError` if there is none."""
        chosen = [i for i, node in enumerate(self.nodes) if _matches(node, pattern)]
        if not chosen:
            paths = sorted({node["path"] for node in self.nodes if node["path"]})
            raise InputError(
                f"--node {pattern!r} matches no name, operator or module path of {self.name}{_near(pattern, paths)}"
            )
        text = [self.text[i] for i in chosen] if self.text else []
        return View(self.name, self.facts, [self.nodes[i] for i in chosen], text)


def _near(pattern: str, paths: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(pattern.strip("*"), paths, 4, 0.4)
    return f"; near: {', '.join(close)}" if close else f"; paths look like {', '.join(paths[:3])}" if paths else ""


def _matches(node: dict[str, Any], pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(str(node[key]), pattern) for key in ("name", "operator", "path"))


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
        inside = program_file(path)
        view = view_program(read_program(path) if inside else open_program(model, settings))
    if node is not None:
        view = view.keep(node)
    data = {"name": view.name, **view.facts, "nodes": view.nodes}
    if form is Format.JSON:
        return Answer(data, json.dumps(data, indent=2))
    if form is Format.DOT:
        dot = to_dot(view)
        return Answer(data | {"dot": dot}, dot)
    return Answer(data, _to_text(view, facts=node is None))


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


def view_program(program: Program) -> View:
    """A program, with the sites passes work on where it is canonical."""
    from torch import Tensor

    from vitgraph.masks import lost
    from vitgraph.sites import path_of
    from vitgraph.text import node_lines

    lines = list(node_lines(program))
    names = {node: line.partition(":")[0] if node.op != "output" else "return_" for node, line in lines}
    nodes: list[dict[str, Any]] = [
        {
            "name": names[node],
            "operator": str(node.target) if node.op == "call_function" else node.op,
            "type": str(node.meta.get("type", "")),
            "path": node.meta.get("path", "") if node.op == "call_function" else str(node.target),
            "inputs": [names[other] for other in node.all_input_nodes],
        }
        for node, _ in lines
    ]
    weights: list[Tensor] = list(program.tensors().values())
    facts: dict[str, Any] = {
        "form": program.form,
        "inputs": [str(kind) for kind in program.input_types()],
        "weights": sum(tensor.numel() for tensor in weights),
        "weight_bytes": sum(tensor.numel() * tensor.element_size() for tensor in weights),
        "operators": dict(Counter(str(node.target) for node in program.calls()).most_common()),
        "sites": _sites(program),
        "sparse": _patterns_of(program),
        "masks_lost": [path_of(node) for node, _ in lost(program)],
        "passes": [entry["name"] for entry in program.ledger],
    }
    return View(program.name, facts, nodes, [line for _, line in lines])


def _sites(program: Program) -> dict[str, Any] | None:
    """Counts by role; None for a graph as captured, in which sites are not found."""
    if program.form != "canonical":
        return None
    from vitgraph.sites import find_sites

    sites = find_sites(program)
    return {
        "linear": dict(Counter(site.role for site in sites.linears).most_common()),
        "attention": len(sites.attentions),
        "norm": len(sites.norms),
        "residual": len(sites.residuals),
    }


def _patterns_of(program: Program) -> dict[str, int] | None:
    """How many weights obey which N:M; None for a graph as captured."""
    if program.form != "canonical":
        return None
    from vitgraph.cost.products import find_products

    weights = {product.weight: product.packing for product in find_products(program) if product.packing is not None}
    return dict(Counter(str(packing) for packing in weights.values()))


def _patterns_in(path: Path) -> dict[str, int]:
    """The same for the weights of an ONNX file."""
    from vitgraph.backends._weights import read_weights
    from vitgraph.cost.products import packing_of
    from vitgraph.cost.workload import BITS

    found = [packing_of(each.kept, BITS[each.format]) for each in read_weights(path, floats=True).values()]
    return dict(Counter(str(packing) for packing in found if packing is not None))


def read_onnx(path: Path) -> View:
    """An ONNX file; `InputError` where it is none. Weights outside the file are read for their zeros alone."""
    import onnx

    untyped: Any = onnx  # some of its functions lack annotations
    try:
        model: onnx.ModelProto = untyped.load(str(path), load_external_data=False)
        untyped.checker.check_model(model) if model.ByteSize() < 2**31 - 1 else None
        sparse = _patterns_in(path)
    except Exception as error:  # protobuf, the file system and the checker each have exceptions of their own
        raise InputError(
            f"{path}: can't be read as ONNX: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    graph = model.graph
    types = {value.name: _onnx_type(value) for value in [*graph.value_info, *graph.input, *graph.output]}
    made_by = {output: node.name or output for node in graph.node for output in node.output}
    nodes = [
        {
            "name": node.name or node.output[0],
            "operator": node.op_type,
            "type": types.get(node.output[0], ""),
            "path": node.name.strip("/").replace("/", "."),
            "inputs": [made_by[name] for name in node.input if name in made_by],
        }
        for node in graph.node
    ]
    facts = {
        "form": f"onnx, opset {max((o.version for o in model.opset_import if o.domain == ''), default=0)}",
        "inputs": [f"{value.name}: {_onnx_type(value)}" for value in graph.input],
        "weights": sum(_product(list(each.dims)) for each in graph.initializer),
        "operators": dict(Counter(node.op_type for node in graph.node).most_common()),
        "sparse": sparse,
    }
    return View(path.name, facts, nodes)


def _product(sizes: list[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def _onnx_type(value: Any) -> str:
    import onnx

    kind = value.type.tensor_type
    shape = ", ".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim)
    return f"{onnx.TensorProto.DataType.Name(kind.elem_type).lower()}[{shape}]"


def to_dot(view: View) -> str:
    """The graph for Graphviz; nodes of one module path stand in one box."""
    lines = [f"digraph {_quote(view.name)} {{", "  rankdir=TB;", '  node [shape=box, fontname="monospace"];']
    by_path = dict[str, list[dict[str, Any]]]()
    for node in view.nodes:
        by_path.setdefault(str(node["path"]), []).append(node)
    for number, (path, nodes) in enumerate(by_path.items()):
        drawn = [f"{_quote(n['name'])} [label={_quote(str(n['operator']) + chr(10) + str(n['type']))}];" for n in nodes]
        inner = [f"    {each}" for each in drawn]
        boxed = [f"  subgraph cluster_{number} {{", f"    label={_quote(path)};", *inner, "  }"] if path else inner
        lines += boxed
    known = {node["name"] for node in view.nodes}
    edges = [(source, node["name"]) for node in view.nodes for source in node["inputs"] if source in known]
    lines += [f"  {_quote(source)} -> {_quote(name)};" for source, name in edges]
    return "\n".join([*lines, "}"]) + "\n"


def _quote(text: Any) -> str:
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _to_text(view: View, facts: bool) -> str:
    lines = view.text or [_line(node) for node in view.nodes]
    if not facts:
        return "\n".join(lines)
    head = [f"# {view.name}"] + [f"# {key}: {_fact(value)}" for key, value in view.facts.items() if value]
    return "\n".join([*head, "", *lines])


def _line(node: dict[str, Any]) -> str:
    kind = f": {node['type']}" if node["type"] else ""
    return f"{node['name']}{kind} = {node['operator']}({', '.join(node['inputs'])})"


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_fact(each)}" for key, each in value.items())  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return ", ".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType]
    return f"{value:,}" if isinstance(value, int) else str(value)


def _report(folder: Path, form: Format) -> Answer:
    from vitgraph.report import read_report

    report = read_report(folder)
    data = json.loads(report.to_json())
    if form is Format.JSON:
        return Answer(data, report.to_json())
    from vitgraph.tools.compile_model import summary

    return Answer(data, summary(report, folder))


def _engine(file: Path, pattern: str | None, form: Format) -> Answer:
    """The layers of an engine, as its builder told them."""
    try:
        data: Any = json.loads(file.read_text(encoding="utf-8"))
        layers: list[dict[str, Any]] = data["layers"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: is no engine report: {error}; `vitgraph compile` writes engine.json") from error
    if form is Format.DOT:
        raise InputError(f"{file}: an engine report has no edges to draw; take --format text or json")
    if pattern is not None:
        layers = [layer for layer in layers if fnmatch.fnmatchcase(json.dumps(layer), f"*{pattern}*")]
    data["layers"] = layers
    rows = [[str(value) for value in layer.values()] for layer in layers]
    text = table([str(key) for key in (layers[0] if layers else {"layer": ""})], rows)
    return Answer(data, json.dumps(data, indent=2) if form is Format.JSON else text)
