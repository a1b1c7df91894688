"""Which N:M pattern each masked linear was given, as the ledger has it, and whether its weight still has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx

from vitgraph.packing import Packing
from vitgraph.products import kept
from vitgraph.program import Program
from vitgraph.sites import path_of, weight_of

aten = torch.ops.aten


def declared(program: Program) -> dict[str, Packing]:
    """The pattern of every masked linear by its module path; a later mask counts for more than one before."""
    entries: list[dict[str, Any]] = [each for step in program.ledger for each in step.get("found", [])]
    return {each["masked"]: pattern_of(each) for each in entries if "masked" in each and "m" in each}


def pattern_of(entry: Mapping[str, Any]) -> Packing:
    """What `nm-mask` wrote into the ledger of one linear."""
    return Packing(*(int(entry.get(name, 1)) for name in ("n", "m", "together", "v")))


def lost(program: Program) -> Iterator[tuple[fx.Node, Packing]]:
    """The linears and convolutions whose weight is denser than the mask that they were given.

    Of several under one path one is enough to have it. What is not known (no values, a computed weight) is not told.
    """
    patterns = declared(program)
    if not patterns:
        return
    holding, others = set[str](), list[tuple[fx.Node, Packing]]()
    for node in program.calls(aten.linear.default, aten.conv2d.default):
        pattern, weight = patterns.get(path_of(node)), weight_of(node)
        keep = kept(program, weight) if pattern is not None and weight.op == "get_attr" else None
        if pattern is None or keep is None:
            continue
        if pattern.holds(keep):
            holding.add(path_of(node))
        else:
            others.append((node, pattern))
    yield from ((node, pattern) for node, pattern in others if path_of(node) not in holding)
