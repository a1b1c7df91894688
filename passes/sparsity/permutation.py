"""Which channels should stand together, so that an N:M mask keeps more of them; and which may change places at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.analysis.channel_flow import before_moves, channels_at, consumers_after_moves, moved
from vitgraph.ir import dialect
from vitgraph.ir.calls import AttentionCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import ACTIVATIONS
from vitgraph.ir.program import Program
from vitgraph.passes import affine

_ROOM = 1 << 25
"""Numbers that a table of groups by groups by rows may hold at once."""


@dataclass(frozen=True)
class ChannelGroup:
    """What a linear's K inputs are: rows of the linear `source`."""

    source: fx.Node
    rows: Tensor
    """Which row of `source` each input is, `[K]`."""
    parts: Tensor
    """Inputs of one number may change places: the head of each where they went through an attention, `[K]`."""

    def holds(self, order: Tensor) -> bool:
        """Whether input j may become what input `order[j]` was, for all j: a permutation that stays within parts."""
        every = torch.arange(len(self.parts))
        return torch.equal(order.sort().values, every) and torch.equal(self.parts[order], self.parts)


def find_channels(program: Program, reader: fx.Node) -> ChannelGroup | str:
    """The channels that `reader`, a linear, reads; or why they can't change places."""
    node: Any = reader.args[0]
    if not affine.has_constant_weight(reader):
        return "its weight is computed or quantized"
    while node.target in ACTIVATIONS or keeps_channels(node):
        if len(node.users) > 1:
            return "what it reads is read elsewhere too"
        node = node.args[0]
    attention = before_moves(node)
    if attention.target is dialect.attention:
        return _through_attention(program, attention, reader)
    if not affine.has_constant_weight(node):
        return "it reads the residual stream, or more than an activation stands before it"
    if len(node.users) > 1:
        return "what it reads is read elsewhere too"
    count = node.meta["type"].shape[-1]
    return ChannelGroup(node, torch.arange(count), torch.zeros(count, dtype=torch.long))


def keeps_channels(node: fx.Node) -> bool:
    """A reshape of everything but the last dimension."""
    if node.target is not aten.reshape.default:
        return False
    source = node.args[0]
    return isinstance(source, fx.Node) and source.meta["type"].shape[-1:] == node.meta["type"].shape[-1:]


def _through_attention(program: Program, attention: fx.Node, reader: fx.Node) -> ChannelGroup | str:
    """A head's output is a mean of v's rows, channel by channel: v's channels come out where they went in."""
    operand = AttentionCall(attention).v
    source = before_moves(operand)
    if [each for each, _ in consumers_after_moves(attention)] != [reader]:
        return "what it reads is read elsewhere too"
    if not affine.has_constant_weight(source):
        return "the attention's v is no plain output of a linear"
    places = channels_at(program, source, operand)
    if places.dim() != 4 or not torch.equal(places, places[:1, :, :1].expand_as(places)):
        return "the channels of v differ from token to token"
    rows = places[0, :, 0]
    others = [channels_at(program, source, value) for _, value in consumers_after_moves(source) if value is not operand]
    if int(torch.bincount(rows.flatten()).max()) > 1 or any(bool(torch.isin(rows, each).any()) for each in others):
        return "heads share the channels of v, or something else reads them"
    shape = attention.meta["type"].at(1)
    numbers = torch.arange(rows.numel(), dtype=torch.float64).reshape(1, shape[1], 1, shape[3])
    here = moved(program, attention, numbers.expand(shape), reader.args[0]).flatten(0, -2)[0].long()  # type: ignore[arg-type]
    return ChannelGroup(source, rows.flatten()[here], here // shape[3])


def kept_share(saliency: Tensor, n: int, m: int) -> float:
    """How much of the saliency `[out, K]` the best `n` of each `m` hold, from 0 to 1."""
    groups = saliency.reshape(len(saliency), -1, m)
    return float(groups.topk(n, -1).values.sum() / saliency.sum().clamp(min=1e-30))


def find_order(saliency: Tensor, n: int, m: int, parts: Tensor, rounds: int) -> Tensor:
    """An order of the K columns of `saliency` `[out, K]` in which `n` of each `m` keep more; columns stay in their part.

    Each round takes one column out of every group and lets pairs of groups exchange theirs, the best pairs first, where
    both together keep more for it: with one column open, n of m keep the n - 1 largest others and the larger of the next
    and the open one. Which columns are open is drawn anew each round, the same every time.
    """
    order = torch.arange(saliency.shape[1]).reshape(-1, m)
    generator = torch.Generator().manual_seed(0)
    for _ in range(rounds):
        shuffled = torch.rand(order.shape, generator=generator).argsort(dim=1)
        order = order.gather(1, shuffled)
        for a, b in _exchanges(saliency, order, n, parts):
            order[a, 0], order[b, 0] = order[b, 0].clone(), order[a, 0].clone()
    return order.sort(dim=1).values.flatten()


def _exchanges(saliency: Tensor, order: Tensor, n: int, parts: Tensor) -> list[tuple[int, int]]:
    """Disjoint pairs of groups that gain by exchanging their first columns."""
    fixed = saliency[:, order[:, 1:]].sort(dim=-1, descending=True).values  # [out, groups, m - 1]
    sure, last = fixed[..., : n - 1].sum((0, 2)), fixed[..., n - 1].T.contiguous()
    opened = saliency[:, order[:, 0]].T.contiguous()  # [groups, out]
    chunk = max(1, _ROOM // opened.numel())
    kept = torch.cat([torch.maximum(last[at : at + chunk, None], opened).sum(-1) for at in range(0, len(last), chunk)])
    kept = kept + sure.unsqueeze(1)
    own = kept.diagonal()
    gain = (kept + kept.T - own.unsqueeze(0) - own.unsqueeze(1)).triu(1)
    part = parts[order[:, 0]]
    gain = gain.masked_fill(part.unsqueeze(0) != part.unsqueeze(1), 0)
    pairs = (gain > 1e-6 * own.mean()).nonzero()
    pairs = pairs[gain[pairs[:, 0], pairs[:, 1]].argsort(descending=True, stable=True)]
    taken, found = set[int](), list[tuple[int, int]]()
    for pair in pairs:
        a, b = int(pair[0]), int(pair[1])
        if a not in taken and b not in taken:
            taken |= {a, b}
            found.append((a, b))
    return found
