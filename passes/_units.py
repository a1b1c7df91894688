"""What a linear reads in whole units, hidden units of an MLP or heads of an attention; `_leaving` takes them out.

A unit owns columns of the linear that reads it and rows of those that write it. What it puts out depends on nothing but
these rows, so that a unit whose columns are zero is not needed, and one whose rows are zero puts out a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph import dialect
from vitgraph.channels import MOVES, behind_moves, channels_at, readers_behind_moves
from vitgraph.passes import _affine
from vitgraph.passes._permutation import find_channels
from vitgraph.program import Program
from vitgraph.sites import ACTIVATIONS

NOBODY = -1
"""The owner of a row that is no unit's."""


@dataclass(frozen=True)
class Units:
    """The units that `reader` reads: heads where there is an attention, else hidden units."""

    count: int
    reader: fx.Node
    columns: Tensor
    """Whose each column of the reader is, `[K]`."""
    writers: Mapping[fx.Node, Tensor]
    """Of each linear that writes: whose each row is, `[N]`; `NOBODY` where it is no unit's."""
    source: fx.Node
    """The writer whose rows the columns read: fc1, or what v comes from."""
    sources: Tensor
    """Which row of `source` each column reads, `[K]`."""
    between: tuple[fx.Node, ...]
    """Activations and reshapes between an fc1 and its reader, in order."""
    attention: fx.Node | None

    @property
    def kind(self) -> str:
        """What the units are called."""
        return "hidden units" if self.attention is None else "heads"

    def of_rows(self, flags: Tensor) -> Tensor:
        """Whether any row of `source` that a unit's columns read is flagged: `[N]` to `[count]`."""
        return torch.zeros(self.count, dtype=torch.bool).index_put_(
            (self.columns[flags[self.sources]],), torch.tensor(True)
        )

    def of_columns(self, flags: Tensor) -> Tensor:
        """Whether any column of a unit is flagged: `[K]` to `[count]`."""
        return torch.zeros(self.count, dtype=torch.bool).index_put_((self.columns[flags],), torch.tensor(True))


def find_units(program: Program, reader: fx.Node) -> Units | str:
    """The units that a linear reads; or why they can't leave."""
    channels = find_channels(program, reader)
    if isinstance(channels, str):
        return channels
    origin, between = _way_back(reader, channels.source)
    writers: dict[fx.Node, Tensor] | str = {channels.source: torch.arange(len(channels.rows))}
    if origin.target is dialect.attention:
        plain = all(node.target in MOVES for node in between)
        writers = _writers_of_heads(program, origin) if plain else "an activation stands behind the attention"
    if isinstance(writers, str):
        return writers
    if any(_shares_mask(linear) for linear in (reader, *writers)):
        return "another linear has the same mask"
    if origin.target is dialect.attention:
        heads = origin.meta["type"].shape[1]
        return Units(heads, reader, channels.parts, writers, channels.source, channels.rows, (), origin)
    count = len(channels.rows)
    return Units(count, reader, torch.arange(count), writers, origin, channels.rows, between, None)


def _way_back(reader: fx.Node, source: fx.Node) -> tuple[fx.Node, tuple[fx.Node, ...]]:
    """`source`, or the attention ahead of it, and what its value goes through to `reader`, in order."""
    node: Any = reader.args[0]
    between = list[fx.Node]()
    while node is not source and node.target is not dialect.attention:
        between.insert(0, node)
        node = node.args[0]
    return node, tuple(between)


def _shares_mask(linear: fx.Node) -> bool:
    masked = linear.args[1]
    return isinstance(masked, fx.Node) and masked.target is dialect.mask and len(masked.users) > 1


def _writers_of_heads(program: Program, attention: fx.Node) -> dict[fx.Node, Tensor] | str:
    """The linears that q, k and v come from, and whose each row is; or why heads can't leave."""
    if len(attention.args) != 5:
        return "the attention is quantized; take heads out ahead of quantize"
    bias = attention.args[3]
    if isinstance(bias, fx.Node) and bias.op != "get_attr":
        return "the attention's bias is computed"
    found = dict[fx.Node, Tensor]()
    for operand in attention.args[:3]:
        assert isinstance(operand, fx.Node)
        source = behind_moves(operand)
        if not _affine.has_constant_weight(source):
            return "more than a linear and moves stand before the attention"
        if any(user is not attention for user, _ in readers_behind_moves(source)):
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


def constants(program: Program, units: Units) -> Tensor:
    """What each column of the reader reads of a unit whose source's rows are all zero, `[K]`, whatever comes in.

    Of a hidden unit that is the activation of its bias; of a head v's bias, for a mean of equal rows is that row.
    """
    bias = _affine.bias(program, units.source)
    values = torch.zeros(units.source.meta["type"].shape[-1]) if bias is None else bias
    for node in units.between:
        if node.target in ACTIVATIONS:
            values = node.target(values, *node.args[1:], **node.kwargs)
    return values[units.sources]
