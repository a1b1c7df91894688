"""A view of a graph, written as lines or for Graphviz."""

from __future__ import annotations

from typing import Any

from vitgraph.tools.graph_view import View


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


def to_text(view: View, facts: bool) -> str:
    """A line for each node; with `facts`, above them what holds of the whole."""
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
