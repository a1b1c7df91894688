"""A graph as text: one line a node, a subset of Python, so that tests, dumps and errors speak one language.

    # program: tiny
    # form: canonical
    x: f32[1, 4, 8] = input()
    fc_weight: f32[8, 8] = weight("fc.weight")
    linear: f32[1, 4, 8] = aten.linear.default(x, fc_weight)  # fc
    return_(linear)

An N:M mask that a linear was given stands in the header, as `# mask: fc 2:4`, with `group_size=2`, `v=64` or `occurrence=1`
(the second linear of this path) where these are not the usual ones: the verifier holds the weight to it.
`weight` is trained, `constant` is not. What follows `#` on a line is the path of the module the node came from.
Names are dealt afresh in order of appearance, so equal texts mean equal graphs.
`vitgraph.ir.parser` reads it back.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, fx

from vitgraph.ir.names import RESERVED
from vitgraph.ir.operator_schema import opname, overload_name, schema_of
from vitgraph.ir.packing import Packing
from vitgraph.ir.tensor_type import DTYPE_NAMES


class Printable(Protocol):
    """What a text is printed from: a Program."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def form(self) -> str: ...  # noqa: D102
    @property
    def graph(self) -> fx.Graph: ...  # noqa: D102
    @property
    def masks(self) -> Mapping[tuple[str, int], Packing]: ...  # noqa: D102
    def tensor(self, name: str) -> Tensor: ...  # noqa: D102


def show(program: Printable, violations: Mapping[fx.Node, list[str]] | None = None) -> str:
    """The program's text; violations, if any, each under the line of its node."""
    masks = (_mask_line(place, program.masks[place]) for place in sorted(program.masks))
    lines = [f"# program: {program.name}", f"# form: {program.form}", *masks]
    for node, line in node_lines(program):
        lines.append(line)
        lines += [f"#   ^ {violation}" for violation in (violations or {}).get(node, [])]
    return "\n".join(lines) + "\n"


def _mask_line(place: tuple[str, int], pattern: Packing) -> str:
    """One mask of the header."""
    more = {"group_size": (pattern.group_size, 1), "v": (pattern.v, 1), "occurrence": (place[1], 0)}
    rest = "".join(f" {name}={value}" for name, (value, usual) in more.items() if value != usual)
    return f"# mask: {place[0]} {pattern.n}:{pattern.m}{rest}"


def node_lines(program: Printable) -> Iterator[tuple[fx.Node, str]]:
    """Every node with its line, in the order of the text."""
    names = _names(program)
    shown = set[fx.Node]()
    for node in program.graph.nodes:
        if node.op == "get_attr":
            continue  # a weight is shown just before its first use
        weights = [user for user in node.all_input_nodes if user.op == "get_attr" and user not in shown]
        for each in [*dict.fromkeys(weights), node]:
            shown.add(each)
            yield each, _line(program, each, names)


def _names(program: Printable) -> dict[fx.Node, str]:
    """A name for each node, in order of appearance in the text: the weight's, the input's or the operator's."""
    names = dict[fx.Node, str]()
    taken = dict[str, int]()
    by_target = dict[str, str]()
    for node in program.graph.nodes:
        if node.op == "get_attr":
            continue
        for each in [n for n in node.all_input_nodes if n.op == "get_attr"] + [node]:
            if each in names or each.op == "output":
                continue
            if each.op == "get_attr" and str(each.target) in by_target:
                names[each] = by_target[str(each.target)]
                continue
            stem = _stem(each)
            count = taken.get(stem, 0)
            while (name := f"{stem}_{count}" if count else stem) in taken:
                count += 1
            taken[stem] = count + 1
            taken.setdefault(name, 1)
            names[each] = name
            if each.op == "get_attr":
                by_target[str(each.target)] = name
    return names


def _stem(node: fx.Node) -> str:
    if node.op == "call_function":
        return _spell(node.target).split(".")[1]
    stem = re.sub(r"\W", "_", str(node.target), flags=re.ASCII)
    stem = f"_{stem}" if stem[:1].isdigit() else stem
    return f"{stem}_" if keyword.iskeyword(stem) or stem in RESERVED else stem


def _spell(target: Any) -> str:
    """`aten.linear.default`, `operator.mul`."""
    if schema_of(target) is None:
        return f"operator.{opname(target)}"
    return f"{target.namespace}.{opname(target)}.{overload_name(target)}"


def _line(program: Printable, node: fx.Node, names: dict[fx.Node, str]) -> str:
    if node.op == "output":
        return f"return_({_show(node.args[0], names)})"
    path = f"  # {node.meta['path']}" if node.meta.get("path") and node.op == "call_function" else ""
    head = f"{names[node]}: {node.meta.get('type', '?')}"
    if node.op == "placeholder":
        return f"{head} = input()"
    if node.op == "get_attr":
        tensor = program.tensor(str(node.target))
        return f'{head} = {"weight" if isinstance(tensor, torch.nn.Parameter) else "constant"}("{node.target}")'
    if node.op != "call_function":
        return f"{head} = unsupported_{node.op}({node.target!s}){path}"
    args = [_show(arg, names) for arg in node.args] + [f"{k}={_show(v, names)}" for k, v in node.kwargs.items()]
    return f"{head} = {_spell(node.target)}({', '.join(args)}){path}"


def _show(value: Any, names: dict[fx.Node, str]) -> str:
    if isinstance(value, fx.Node):
        return names[value]
    if isinstance(value, list | tuple):
        inner = ", ".join(_show(item, names) for item in value)  # pyright: ignore[reportUnknownVariableType]
        return f"[{inner}]" if isinstance(value, list) else f"({inner},)"
    if isinstance(value, torch.dtype):
        return DTYPE_NAMES[value]
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return f"{type(value).__name__}({str(value)!r})"
