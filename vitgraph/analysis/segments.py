"""A program cut where a single value is alive: parts that can be run, and trained, one after the other.

In a transformer these places are the residual stream between its branches. What a part needs from elsewhere (weights,
sizes) it finds itself, so that running a model part by part needs the one value in between and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.runtime.activation_store import ActivationStore

Overrides = Mapping[fx.Node, Callable[..., Any]]
"""What to compute in place of a node: called with the values of its arguments (of a `get_attr`: with none)."""


@dataclass(frozen=True)
class Segment:
    """The nodes between two cuts: `nodes` computes `end` from `start` and constants."""

    start: fx.Node
    end: fx.Node
    nodes: tuple[fx.Node, ...]


def find_segments(program: Program, holds: Callable[[fx.Node], bool]) -> list[Segment]:
    """Consecutive segments from the first input on, each as short as it can be while it has a node that `holds`.

    What comes after the last such node belongs to none.
    """
    found, nodes = list[Segment](), list[fx.Node]()
    start = program.inputs[0]
    cuts = set(_cuts(program))
    for node in program.graph.nodes:
        if node.op == "call_function":
            nodes.append(node)
        if node in cuts and any(holds(each) for each in nodes):
            found.append(Segment(start, node, tuple(nodes)))
            start, nodes = node, []
    return found


def _cuts(program: Program) -> Iterator[fx.Node]:
    """Calls after which their own value is the only tensor still needed."""
    place = {node: position for position, node in enumerate(program.graph.nodes)}
    last = {node: max((place[user] for user in node.users), default=-1) for node in place}
    alive = set[fx.Node]()
    for node, position in place.items():
        if node.op == "placeholder" or (node.op == "call_function" and isinstance(node.meta["type"], TensorType)):
            alive.add(node)
        alive = {each for each in alive if last[each] > position}
        if node.op == "call_function" and alive == {node}:
            yield node


def run_segment(program: Program, segment: Segment, x: Tensor, overrides: Overrides) -> Tensor:
    """The value at the segment's end, from `x` at its start: `[units, …]` in and out, a unit being one run of the graph.

    A graph with a fixed batch takes that many images in a unit, any other takes one.
    """

    def run(unit: Tensor) -> Tensor:
        return _run(program, segment, unit, overrides)

    mapped: Callable[[Tensor], Tensor] = torch.vmap(run, randomness="error")
    return mapped(x)


def _size(x: Tensor, dim: int) -> int:
    return x.shape[dim]


_AS_PYTHON: Mapping[Any, Callable[..., Any]] = {aten.sym_size.int: _size}
"""`torch.vmap` has no rule for a size."""


def _run(program: Program, segment: Segment, x: Tensor, overrides: Overrides) -> Tensor:
    known: dict[fx.Node, Any] = {segment.start: x}

    def value(node: fx.Node) -> Any:
        if node not in known:
            assert node.op == "get_attr", node
            known[node] = overrides[node]() if node in overrides else program.tensor(str(node.target))
        return known[node]

    for node in segment.nodes:
        args, kwargs = fx.map_arg((node.args, node.kwargs), value)
        known[node] = overrides.get(node, _AS_PYTHON.get(node.target, node.target))(*args, **kwargs)  # type: ignore[operator]
    return known[segment.end]  # type: ignore[no-any-return]


def advance(
    program: Program,
    segment: Segment,
    units: ActivationStore,
    overrides: Overrides,
    chunk: int = 8,
    *,
    keep: bool = False,
) -> ActivationStore:
    """The same for many units, in chunks and without gradients; in the room of `units` where the value's shape stays.

    So the residual stream of many images in a large model is held once. With `keep`, `units` is left as it is.
    """
    result, at = None, 0
    with torch.no_grad():
        for part in units.chunks(chunk):
            value = run_segment(program, segment, part, overrides)
            if result is None:
                stays = value.shape[1:] == units.shape and not keep
                result = units if stays else ActivationStore(len(units), value.shape[1:])
            result.write(at, value)
            at += len(value)
    assert result is not None
    return result
