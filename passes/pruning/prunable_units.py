"""What a linear reads in whole units, hidden units of an MLP or heads of an attention; `_leaving` takes them out.

A unit owns columns of the linear that reads it and rows of those that write it. What it outputs depends on nothing but
these rows, so that a unit whose columns are zero is not needed, and one whose rows are zero outputs a constant. Of a gated MLP,
act(a) · b (Shazeer, arXiv 2002.05202), a unit is a row of a and one of b, from two linears or two halves of one: it outputs a
constant where both rows are zero, or where one is and what it gives is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.analysis.channel_flow import before_moves, channels_at, consumers_after_moves
from vitgraph.ir import dialect
from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.calls import AttentionCall, BinaryCall, LinearCall, MaskCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import ACTIVATIONS, MOVES
from vitgraph.ir.program import Program
from vitgraph.passes import affine
from vitgraph.passes.sparsity.permutation import ChannelGroup, find_channels, keeps_channels

NOBODY = -1
"""The owner of a row that is no unit's."""


@dataclass(frozen=True)
class Branch:
    """One way to the units: from the linear that v, or a hidden unit, or one factor of a gated one, comes from."""

    source: fx.Node
    rows: Tensor
    """Which row of `source` each column of the reader reads, `[K]`."""
    between: tuple[fx.Node, ...] = ()
    """Activations and reshapes on the way, in order."""

    def constants(self, program: Program) -> tuple[Tensor, Tensor]:
        """Which columns' row is all zero, and what comes of its bias then, whatever comes in; `[K]` each."""
        zero = ~(affine.weight(program, self.source) != 0).any(1)
        bias = affine.bias(program, self.source)
        values = torch.zeros(len(zero)) if bias is None else bias
        return zero[self.rows], _through(self.between, values)[self.rows]


@dataclass(frozen=True)
class PrunableUnits:
    """The units that `reader` reads: heads where there is an attention, else hidden units."""

    count: int
    reader: fx.Node
    columns: Tensor
    """Whose each column of the reader is, `[K]`."""
    writers: Mapping[fx.Node, Tensor]
    """Of each linear that writes: whose each row is, `[N]`; `NOBODY` where it is no unit's."""
    branches: tuple[Branch, ...]
    """What is read is their product; there is one but in a gated MLP."""
    downstream: tuple[fx.Node, ...]
    """Activations and reshapes between the product of two branches and the reader, in order."""
    attention: fx.Node | None

    @property
    def kind(self) -> str:
        """What the units are called."""
        return "hidden units" if self.attention is None else "heads"

    def of_columns(self, flags: Tensor) -> Tensor:
        """Whether any column of a unit is flagged: `[K]` to `[count]`."""
        return torch.zeros(self.count, dtype=torch.bool).index_put_((self.columns[flags],), torch.tensor(True))


def find_units(program: Program, reader: fx.Node) -> PrunableUnits | str:
    """The units that a linear reads; or why they can't leave."""
    channels = find_channels(program, reader)
    if isinstance(channels, str):
        found = _gated(program, reader) or channels
    else:
        origin, between = _way_back(reader, channels.source)
        if origin.target is dialect.attention:
            found = _heads(program, reader, channels, origin, between)
        else:
            every = torch.arange(len(channels.rows))
            branch = Branch(channels.source, channels.rows, between)
            found = PrunableUnits(len(every), reader, every, {channels.source: every}, (branch,), (), None)
    if isinstance(found, PrunableUnits) and any(_shares_mask(linear) for linear in (reader, *found.writers)):
        return "another linear has the same mask"
    return found


def _heads(
    program: Program, reader: fx.Node, channels: ChannelGroup, attention: fx.Node, between: tuple[fx.Node, ...]
) -> PrunableUnits | str:
    """The heads of an attention; v's rows are what they output, for a mean of equal rows is that row."""
    if any(node.target not in MOVES for node in between):
        return "an activation consumes the attention"
    writers = _writers_of_heads(program, attention)
    if isinstance(writers, str):
        return writers
    branch = Branch(channels.source, channels.rows)
    return PrunableUnits(attention.meta["type"].shape[1], reader, channels.parts, writers, (branch,), (), attention)


def _gated(program: Program, reader: fx.Node) -> PrunableUnits | str | None:
    """The hidden units of a gated MLP; or why they can't leave; None where `reader` reads no product of linears."""
    downstream, product = _steps_back(reader.args[0])
    if product.target is not aten.mul.Tensor or not isinstance(BinaryCall(product).right, fx.Node):
        return None
    ways = [_steps_back(operand) for operand in (BinaryCall(product).left, BinaryCall(product).right)]
    sources = [before_moves(end) for _, end in ways]
    if not all(map(affine.has_constant_weight, sources)):
        return None
    alone = {product, *downstream, *(node for between, _ in ways for node in between)}
    firsts = {between[0] if between else product for between, _ in ways}
    readers = {user for source in sources for user, _ in consumers_after_moves(source)}
    if any(len(node.users) > 1 for node in alone) or not readers <= firsts:
        return "what it reads is read elsewhere too"
    count = product.meta["type"].shape[-1]
    branches, writers = list[Branch](), dict[fx.Node, Tensor]()
    for (between, end), source in zip(ways, sources, strict=True):
        places = channels_at(program, source, end).flatten(0, -2)
        owners = writers.setdefault(source, torch.full((source.meta["type"].shape[-1],), NOBODY))
        if not torch.equal(places, places[:1].expand_as(places)) or bool((owners[places[0]] != NOBODY).any()):
            return "hidden units share channels, or differ from token to token"
        owners[places[0]] = torch.arange(count)
        branches.append(Branch(source, places[0], between))
    return PrunableUnits(count, reader, torch.arange(count), writers, tuple(branches), downstream, None)


def _steps_back(node: Any) -> tuple[tuple[fx.Node, ...], fx.Node]:
    """Activations, and reshapes of all but the channels, that end in a value, in order; and what they begin with."""
    steps = list[fx.Node]()
    while node.target in ACTIVATIONS or keeps_channels(node):
        steps.insert(0, node)
        node = node.args[0]
    return tuple(steps), node


def _way_back(reader: fx.Node, source: fx.Node) -> tuple[fx.Node, tuple[fx.Node, ...]]:
    """`source`, or the attention ahead of it, and what its value goes through to `reader`, in order."""
    node: Any = reader.args[0]
    between = list[fx.Node]()
    while node is not source and node.target is not dialect.attention:
        between.insert(0, node)
        node = node.args[0]
    return node, tuple(between)


def _shares_mask(linear: fx.Node) -> bool:
    weight = LinearCall(linear).weight
    return MaskCall.views(weight) and len(weight.users) > 1


def _writers_of_heads(program: Program, attention: fx.Node) -> dict[fx.Node, Tensor] | str:
    """The linears that q, k and v come from, and whose each row is; or why heads can't leave."""
    call = AttentionCall(attention)
    if call.is_rounded:
        return "the attention is quantized; take heads out ahead of quantize"
    if call.bias is not None and call.bias.op != "get_attr":
        return "the attention's bias is computed"
    found = dict[fx.Node, Tensor]()
    for operand in call.operands:
        source = before_moves(operand)
        if not affine.has_constant_weight(source):
            return "more than a linear and moves stand before the attention"
        if any(user is not attention for user, _ in consumers_after_moves(source)):
            return "what the attention reads is read elsewhere too"
        places = channels_at(program, source, operand)
        if places.dim() != 4 or not torch.equal(places, places[:1, :, :1].expand_as(places)):
            return "the channels of a head differ from token to token"
        rows = places[0, :, 0]  # [heads, head_dim]
        owners = found.setdefault(source, torch.full((source.meta["type"].shape[-1],), NOBODY))
        if bool((owners[rows] != NOBODY).any()) or int(torch.bincount(rows.flatten()).max()) > 1:
            return "heads share channels"
        owners[rows] = torch.arange(len(rows)).unsqueeze(1).expand_as(rows)
    return found


def constants(program: Program, units: PrunableUnits) -> tuple[Tensor, Tensor]:
    """Which columns of the reader read the same whatever comes in, and what that is (0 for others), `[K]` each."""
    zero, values = zip(*(branch.constants(program) for branch in units.branches), strict=True)
    known = torch.stack(zero)
    factors = torch.stack(values).where(known, 1.0)
    fixed = known.all(0) | (known & (factors == 0)).any(0)
    return fixed, _through(units.downstream, factors.prod(0)).where(fixed, 0.0)


def _through(steps: tuple[fx.Node, ...], values: Tensor) -> Tensor:
    """What activations make of values."""
    for node in steps:
        if node.target in ACTIVATIONS:
            _, *options = arguments(node).items()
            activation: Any = node.target
            values = activation(values, **dict(options))
    return values
