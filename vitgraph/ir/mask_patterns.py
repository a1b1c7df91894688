"""Which N:M pattern each masked linear was given, as the ledger has it, and whether its weight still has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir.calls import MaskCall
from vitgraph.ir.dialect import mask
from vitgraph.ir.navigate import path_of, weight_of
from vitgraph.ir.operator_classes import LINEARS
from vitgraph.ir.packing import Packing
from vitgraph.ir.program import Program

SiteKey = tuple[str, int]
"""A module path, and how many linears and convolutions of this path come before: a module may run several."""


def site_keys(paths: Iterable[str]) -> Iterator[SiteKey]:
    """Paths of linears in graph order, each as a place."""
    seen = Counter[str]()
    for path in paths:
        yield path, seen[path]
        seen[path] += 1


def linears(program: Program) -> dict[fx.Node, SiteKey]:
    """Every linear and convolution, with its place."""
    nodes = program.calls(*LINEARS)
    return dict(zip(nodes, site_keys(path_of(node) for node in nodes), strict=True))


def declared(program: Program) -> dict[SiteKey, Packing]:
    """The pattern of every linear that `nm-mask` masked; a later mask counts for more than one before."""
    entries: list[dict[str, Any]] = [each for step in program.ledger for each in step.get("found", [])]
    masks = [each for each in entries if "masked" in each and "m" in each]
    return {(each["masked"], each.get("place", 0)): pattern_of(each) for each in masks}


def pattern_of(entry: Mapping[str, Any]) -> Packing:
    """What `nm-mask` wrote into the ledger of one linear."""
    return Packing(*(int(entry.get(name, 1)) for name in ("n", "m", "group_size", "v")))


def lost(program: Program) -> Iterator[tuple[fx.Node, Packing]]:
    """The linears and convolutions whose weight is denser than the mask that they were given.

    What is not known (no values, a computed weight) is not told.
    """
    patterns = declared(program)
    for node, place in linears(program).items() if patterns else ():
        pattern, weight = patterns.get(place), weight_of(node)
        keep = kept(program, weight) if pattern is not None and weight.op == "get_attr" else None
        if pattern is not None and keep is not None and not pattern.holds(keep):
            yield node, pattern


def kept(program: Program, weight: fx.Node) -> Tensor | None:
    """Which elements of a weight are not zero; None where that is not known, as of a weight without values."""
    masks = [user for user in weight.users if user.target is mask]
    held = MaskCall(masks[0]).keep if masks else weight
    tensor = program.tensor(str(held.target))
    if tensor.is_meta:
        return None
    if tensor.dtype == torch.float8_e4m3fn:  # has no comparison, and two zeros
        return (tensor.view(torch.uint8) & 127) != 0
    return tensor != 0
