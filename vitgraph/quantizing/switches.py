"""Switches: the places of a quantized program that can fall back from INT8, each without leaving a half-quantized kernel.

- a linear or convolution whose input and weight both have a pair: its own reading of that input, and its weight;
- an attention with a quantizer on its softmax: that, and what its q, k and v are read through;
- an output pair on a linear that feeds no attention (`quantize{outputs=true}`).

Some go together. An INT8 attention must hand its output to an INT8 linear, so that linear takes the attention along. A
linear in floating point has no use for a pair on its output, which is there for INT8-out kernels. The linear ahead of an
INT8 attention may stay in floating point alone: the pair on its output still gives the attention its INT8 input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import fx

from vitgraph.analysis.sites import LinearSite, find_sites
from vitgraph.ir import dialect
from vitgraph.ir.calls import AttentionCall, operands_of
from vitgraph.ir.navigate import before_layout, path_of
from vitgraph.ir.operator_classes import LAYOUT, LINEARS
from vitgraph.ir.program import Program

Edge = tuple[fx.Node, fx.Node]
"""A reader and the pair it reads."""


@dataclass(frozen=True, eq=False)
class Switch:
    """One decision: INT8 here, or floating point. `edges` are the readings of pairs that it owns."""

    path: str
    role: str
    """The linear's role; `attention`; or `output` for a pair on a linear's output."""
    k: int
    n: int
    nodes: tuple[fx.Node, ...]
    """The linear, or the attentions, whose softmax is quantized with this switch."""
    edges: frozenset[Edge]
    also_named: str | None = None
    """`pointwise` of a 1×1 convolution."""

    @property
    def attentions(self) -> tuple[fx.Node, ...]:
        """The attentions that compute in INT8 while this is on."""
        return self.nodes if self.role == "attention" else ()

    @property
    def is_linear(self) -> bool:
        """Whether it is a product with a weight."""
        return self.role not in ("attention", "output")

    @property
    def name(self) -> str:
        """What a report calls it."""
        return f"{self.path} ({self.role})"


@dataclass(frozen=True)
class Switches:
    """Every switch of a program in graph order, and which ones each takes along when it goes to floating point."""

    all: tuple[Switch, ...]
    along: dict[Switch, tuple[Switch, ...]]

    def off(self, switch: Switch) -> frozenset[Switch]:
        """The switch and what can't stay INT8 without it."""
        return frozenset((switch, *self.along.get(switch, ())))


def find_switches(program: Program) -> Switches:
    """Every switch of a canonical program; none where nothing is quantized."""
    sites = find_sites(program)
    attentions = _attention_switches(program)
    taken = {pair for switch in attentions for _, pair in switch.edges}
    linears = [_linear_switch(site) for site in sites.linears if _is_quantized(site)]
    outputs = [
        _output_switch(site, pair) for site in sites.linears for pair in _pairs_on(site.node) if pair not in taken
    ]
    place = {node: position for position, node in enumerate(program.graph.nodes)}
    found = sorted((*linears, *attentions, *outputs), key=lambda switch: place[switch.nodes[0]])
    along = {
        linear: (
            *(each for each in attentions if before_layout(linear.nodes[0].args[0]) in each.nodes),  # type: ignore[arg-type]
            *(each for each in outputs if each.nodes == linear.nodes),
        )
        for linear in linears
    }
    return Switches(tuple(found), along)


def _is_quantized(site: LinearSite) -> bool:
    return all(operand.target is dialect.fake_quantize for operand in operands_of(site.node))


def _linear_switch(site: LinearSite) -> Switch:
    edges = frozenset((site.node, operand) for operand in operands_of(site.node))
    return Switch(site.path, site.role, site.k, site.n, (site.node,), edges, site.also_named)


def _pairs_on(node: fx.Node) -> list[fx.Node]:
    """The pairs that round what a linear outputs for no linear in particular: those that not only linears read."""
    pairs = [user for user in node.users if user.target is dialect.fake_quantize]
    return [pair for pair in pairs if any(user.target not in LINEARS for user in pair.users)]


def _output_switch(site: LinearSite, pair: fx.Node) -> Switch:
    return Switch(site.path, "output", site.k, site.n, (site.node,), frozenset((user, pair) for user in pair.users))


def _attention_switches(program: Program) -> list[Switch]:
    """One for each INT8 attention; attentions that read one value through one pair share theirs."""
    groups = list[tuple[list[fx.Node], set[Edge]]]()
    for node in program.calls(dialect.attention):
        call = AttentionCall(node)
        if not call.is_rounded:
            continue
        edges = {edge for operand in call.operands for edge in _read_through(node, operand)}
        shared = [group for group in groups if group[1] & edges]
        groups = [group for group in groups if group not in shared]
        groups.append(([*(n for g in shared for n in g[0]), node], edges.union(*(g[1] for g in shared))))
    return [_attention_switch(nodes, frozenset(edges)) for nodes, edges in groups]


def _attention_switch(nodes: list[fx.Node], edges: frozenset[Edge]) -> Switch:
    q = nodes[0].args[0]
    assert isinstance(q, fx.Node)
    tokens, head_dim = q.meta["type"].shape[-2:]
    return Switch(path_of(nodes[0]), "attention", head_dim, tokens, tuple(nodes), edges)


def _read_through(reader: fx.Node, value: object) -> Iterator[Edge]:
    """The nearest Q/DQ pairs downstream of layout operators, each with its consumer."""
    while isinstance(value, fx.Node) and value.target in LAYOUT:
        if value.target is dialect.fake_quantize:
            yield reader, value
            return
        reader, value = value, value.args[0]


def take_back(program: Program, switches: Iterable[Switch]) -> None:
    """Let the readers read what the pairs round, and the softmaxes be: pairs without readers fall away in `clean`."""
    for switch in switches:
        for reader, pair in sorted(switch.edges, key=lambda edge: (edge[0].name, edge[1].name)):
            source = pair.args[0]
            assert isinstance(source, fx.Node)
            reader.replace_input_with(pair, source)
        for node in switch.attentions:
            AttentionCall(node).leave_probabilities()
