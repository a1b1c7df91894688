"""What the dialect lacks is refused by name: all of a program's operators at once, ahead of any other work."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from vitgraph.errors import InputError
from vitgraph.ir.calls import SdpaCall
from vitgraph.ir.dialect import ATEN, INTEGER, OWN
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_schema import opname, schema_of
from vitgraph.ir.program import Program

_SHOWN = 3
"""How many modules of one operator are named."""


def refuse_missing(program: Program) -> None:
    """Raise `InputError` that names each operator outside the dialect, the modules it is in and a remedy."""
    found = dict[Any, dict[str, None]]()
    for node in _live(program):
        if node.op == "call_function" and not _is_known(node):
            found.setdefault(node.target, {})[path_of(node)] = None
    if not found:
        return
    named = "; ".join(f"{target} ({_places(list(paths))})" for target, paths in found.items())
    remedies = " ".join(dict.fromkeys(_remedy(target) for target in found))
    raise InputError(f"{program.name}: vitgraph has no form for {named}. {remedies}")


def _is_known(node: fx.Node) -> bool:
    call = SdpaCall.of(node)
    if call is not None:
        return not call.dropout
    if schema_of(node.target) is None:
        return node.target in INTEGER or opname(node.target) == "getitem"
    return node.target in ATEN or node.target in OWN


def _live(program: Program) -> list[fx.Node]:
    """The nodes that the output needs, in order."""
    needed = {program.output}
    for node in reversed(program.graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in program.graph.nodes if node in needed]


def _places(paths: list[str]) -> str:
    more = len(paths) - _SHOWN
    return ", ".join(f"in {path}" for path in paths[:_SHOWN]) + (f" and {more} more modules" if more > 0 else "")


def _remedy(target: Any) -> str:
    if target in SdpaCall.operators:
        return "Its dropout_p is on in eval mode, too: pass dropout_p=p if self.training else 0.0."
    if "dropout" in opname(target):
        return "Dropout that is on in eval mode stays random: pass it training=self.training."
    if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
        return (
            "Random numbers differ on every run and have no place in an engine: make them a buffer, or an input's part."
        )
    return "Write it with operators of the dialect (docs/program.md), or leave it out of the model that is captured."
