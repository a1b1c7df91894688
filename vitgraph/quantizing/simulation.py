"""Running a quantized program with some of its pairs left out, many variants at a time.

Runs that differ from a base only further down share its beginning: the base is run node by node, and where a variant
begins to differ it forks. Only values that are still read are kept, twice at most; what does not depend on the input is
computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.operator_classes import ROUNDS
from vitgraph.ir.program import Program
from vitgraph.pass_manager.numerics import flatten_outputs
from vitgraph.quantizing.switches import Edge, Switch

Values = dict[fx.Node, Any]


@dataclass(frozen=True)
class Off:
    """What is left out: readings of pairs, and quantizers inside attentions."""

    edges: frozenset[Edge]
    attentions: frozenset[fx.Node]

    @staticmethod
    def of(switches: Iterable[Switch]) -> Off:
        """These switches off."""
        switches = list(switches)
        return Off(
            frozenset[Edge]().union(*(switch.edges for switch in switches)),
            frozenset(node for switch in switches for node in switch.attentions),
        )

    @staticmethod
    def all_of(program: Program) -> Off:
        """Floating point throughout: no pair is read, whether a switch owns it or not."""
        pairs = program.calls(*ROUNDS)
        readings = frozenset((user, pair) for pair in pairs for user in pair.users)
        return Off(readings, frozenset(program.calls(dialect.attention)))

    def but(self, switch: Switch) -> Off:
        """The same with one switch on."""
        return Off(self.edges - switch.edges, self.attentions - frozenset(switch.attentions))

    def touches(self, other: Off) -> set[fx.Node]:
        """The nodes at or downstream of which this and the other differ: readers and their pairs."""
        return {node for edge in self.edges ^ other.edges for node in edge} | (self.attentions ^ other.attentions)


class Simulation:
    """One program, made ready to run with this or that left out."""

    def __init__(self, program: Program) -> None:
        self._nodes = list(program.graph.nodes)
        self._place = {node: position for position, node in enumerate(self._nodes)}
        self._dies = _last_reads(self._nodes)
        self._constants = _constants(program)

    def run(self, pixels: Tensor, base: Off, variants: Sequence[Off] = ()) -> list[Tensor]:
        """Logits `[images, classes]` of the base and of each variant; `InputError` where the output has another shape."""
        forks = dict[int, list[int]]()
        for number, variant in enumerate(variants):
            touched = [self._place[node] for node in base.touches(variant) if node not in self._constants]
            forks.setdefault(min(touched, default=len(self._nodes) - 1), []).append(number)
        found = [torch.empty(0)] * len(variants)
        values = Values()
        with torch.no_grad():
            for start in range(len(self._nodes)):
                for number in forks.get(start, ()):
                    found[number] = self._finish(start, dict(values), pixels, variants[number])
                self._step(start, values, pixels, base)
        return [_logits(values[self._nodes[-1]]), *found]

    def _finish(self, start: int, values: Values, pixels: Tensor, off: Off) -> Tensor:
        for position in range(start, len(self._nodes)):
            self._step(position, values, pixels, off)
        return _logits(values[self._nodes[-1]])

    def _step(self, position: int, values: Values, pixels: Tensor, off: Off) -> None:
        """Run one node; drop what was read for the last time."""
        node = self._nodes[position]

        def read(source: fx.Node) -> Any:
            reader = node
            while (reader, source) in off.edges:
                reader, source = source, source.args[0]  # type: ignore[assignment]
            return self._constants[source] if source in self._constants else values[source]

        if node.op == "placeholder":
            values[node] = pixels
        elif node.op == "output":
            values[node] = fx.map_arg(node.args[0], read)
        elif node not in self._constants and not _is_unread(node, off):
            args, kwargs = fx.map_arg((node.args, node.kwargs), read)
            args = args[:5] if node in off.attentions else args
            values[node] = node.target(*args, **kwargs)
        for dead in self._dies[position]:
            values.pop(dead, None)


def _is_unread(node: fx.Node, off: Off) -> bool:
    """A pair that everything reads past."""
    return node.target in ROUNDS and all((user, node) in off.edges for user in node.users)


def _last_reads(nodes: list[fx.Node]) -> list[list[fx.Node]]:
    """For each position, what is read there for the last time; who reads a pair may read past it."""
    last, dies = dict[fx.Node, int](), [list[fx.Node]() for _ in nodes]
    for position in range(len(nodes) - 1, -1, -1):
        for source in nodes[position].all_input_nodes:
            value: Any = source
            last.setdefault(value, position)
            while value.target in ROUNDS:
                value = value.args[0]
                last.setdefault(value, position)
    for node, position in last.items():
        dies[position].append(node)
    return dies


def _constants(program: Program) -> Values:
    """Everything that does not depend on the input, computed once: rounded weights among it."""
    found = Values()
    with torch.no_grad():
        for node in program.graph.nodes:
            if node.op == "get_attr":
                found[node] = program.tensor(str(node.target)).detach()
            elif node.op == "call_function" and node.all_input_nodes and all(n in found for n in node.all_input_nodes):
                args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: found[source])
                found[node] = node.target(*args, **kwargs)
    return found


def _logits(value: Any) -> Tensor:
    first = flatten_outputs(value)[0]
    if first.dim() != 2:
        raise InputError(
            f"placement needs a model whose output is [images, classes]; this one gives {list(first.shape)}"
        )
    return first.float()
