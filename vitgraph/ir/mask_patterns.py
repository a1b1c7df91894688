"""Which linear each of a program's N:M masks is of, and whether its weight still has the pattern."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, fx

from vitgraph.ir.calls import MaskCall
from vitgraph.ir.dialect import mask
from vitgraph.ir.navigate import path_of, weight_of
from vitgraph.ir.operator_classes import LINEARS
from vitgraph.ir.packing import Packing
from vitgraph.ir.program import Program, SiteKey


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


def lost(program: Program) -> Iterator[tuple[fx.Node, Packing]]:
    """The linears and convolutions whose weight is denser than the mask that they were given.

    What is not known (no values, a computed weight) is not told.
    """
    for node, weight, pattern in _masked(program):
        keep = kept(program, weight)
        if keep is not None and not pattern.holds(keep):
            yield node, pattern


def homeless(program: Program) -> list[SiteKey]:
    """Places of masks where the graph has no linear or convolution: what took it out is to take out the mask."""
    places = set(linears(program).values()) if program.masks else set[SiteKey]()
    return [place for place in program.masks if place not in places]


def thin(program: Program) -> None:
    """Give weights that were drawn at random the patterns of their masks: the first n of each m stay. Done in place."""
    for _, weight, pattern in _masked(program):
        tensor = program.tensor(str(_held(weight).target))
        stays = torch.arange(tensor.shape[1]) // pattern.group_size % pattern.m < pattern.n
        columns = stays.reshape(1, -1, *(1 for _ in tensor.shape[2:]))
        tensor.detach().copy_(tensor.detach().float() * columns)


def _masked(program: Program) -> Iterator[tuple[fx.Node, fx.Node, Packing]]:
    """Each masked linear that is there, the `get_attr` of its weight, and its pattern."""
    for node, place in linears(program).items() if program.masks else ():
        pattern, weight = program.masks.get(place), weight_of(node)
        if pattern is not None and weight.op == "get_attr":
            yield node, weight, pattern


def _held(weight: fx.Node) -> fx.Node:
    """What says which elements stay: the mask on a weight, or the weight itself."""
    masks = [user for user in weight.users if user.target is mask]
    return MaskCall(masks[0]).keep if masks else weight


def kept(program: Program, weight: fx.Node) -> Tensor | None:
    """Which elements of a weight are not zero; None where that is not known, as of a weight without values."""
    tensor = program.tensor(str(_held(weight).target))
    if tensor.is_meta:
        return None
    if tensor.dtype == torch.float8_e4m3fn:  # has no comparison, and two zeros
        return (tensor.view(torch.uint8) & 127) != 0
    return tensor != 0
