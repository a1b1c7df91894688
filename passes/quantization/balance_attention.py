"""Centre and equalize the channels of an attention's q, k and v, so that one INT8 scale serves all of them.

Before:
    qkv = aten.linear.default(x, w, b)                        # … split into q, k, v …
    out = vitgraph.attention.default(q, k, v, None, 0.125)
    y = aten.linear.default(merged, w_proj, b_proj)

After:
    qkv = aten.linear.default(x, w_balanced, b_balanced)      # t q, (k - mean k) / t, (v - mean v) / u
    out = vitgraph.attention.default(q, k, v, None, 0.125)
    y = aten.linear.default(merged, w_proj u, b_proj + w_proj mean v)

Three identities, folded into weights and biases, so that none costs anything at run time:
- what is added to every key moves all scores of a query alike, and the softmax does not see it: k gives up its mean;
- a row of the softmax sums to one: v gives up its mean, which comes back through proj's bias. What rounding takes from the
  sum of a row then takes nothing from that mean;
- (t q) · (k / t) is the same score, and u (v / u) the same output: t = sqrt(max|k| / max|q|) gives q and k the same range,
  and u equalizes v as SmoothQuant does a linear's input (arXiv 2211.10438, eq. 4), brought to the range of q and k.

What proj reads is a mean of v's rows, and is equalized with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx

from vitgraph.analysis.attention import AttentionSite
from vitgraph.analysis.channel_flow import before_moves, channels_at, consumers_after_moves, moved
from vitgraph.analysis.sites import find_sites
from vitgraph.domains import Fraction
from vitgraph.ir.calls import AttentionCall
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes import affine
from vitgraph.quantizing.calibration import ChannelStatistics, observe_channels

_SMALLEST = 1e-5
"""The least channel maximum that counts: a dead channel has nothing to equalize."""
_SUFFIX = "balanced"


@dataclass(frozen=True)
class BalanceAttention(Pass):
    """Take the means out of k and v, and give the channels of q, k and v the same range."""

    name: ClassVar[str] = "balance-attention"
    effect: ClassVar[Effect] = Effect.REORDERS

    alpha: Fraction = 0.8
    """How much of v's range moves into proj's weight, from 0 to 1."""

    @property
    def needs_images(self) -> bool:
        """Ranges and means of q, k and v are seen on images."""
        return True

    def run(self, program: Program, context: Context) -> None:
        """Observe q, k and v, then rewrite."""
        found = list[_Attention]()
        for site in find_sites(program).fused_attentions:
            attention = _Attention(program, site)
            if attention.is_tied:
                context.refuse(site.path, affine.TIED)
                continue
            for why in attention.refusals():
                context.refuse(site.path, why)
            if (attention.scores or attention.values) and context.take(self.name, site.path):
                found.append(attention)
        nodes = list(dict.fromkeys(source for attention in found for source in attention.sources))
        with context.timed("calibration"):
            seen = observe_channels(program, nodes, context.images, context.progress) if nodes else []
        channels = dict(zip(nodes, seen, strict=True))
        for attention in found:
            attention.balance(channels, self.alpha)


class _Attention:
    """One attention, the rows of linears (often of one and the same) that are its q, k and v, and what reads it."""

    def __init__(self, program: Program, site: AttentionSite) -> None:
        self.program, self.site = program, site
        self.operands = AttentionCall(site.node).operands
        self.linears = [before_moves(operand) for operand in self.operands]
        self.rows = [self._rows(position) for position in range(3)]
        readers = consumers_after_moves(site.node)
        self.proj, self.merged = readers[0] if len(readers) == 1 else (site.node, site.node)
        alone = affine.has_constant_weight(self.proj) and self.proj.args[0] is self.merged
        self.scores = self.rows[0] is not None and self.rows[1] is not None
        self.values = self.rows[2] is not None and alone

    @property
    def is_tied(self) -> bool:
        """Whether a linear that would take factors shares its weight with another."""
        linears = (each for each in (*self.linears, self.proj) if affine.has_constant_weight(each))
        return any(affine.is_tied(self.program, each) for each in linears)

    @property
    def sources(self) -> list[fx.Node]:
        """The linears that are to be observed."""
        return [*(self.linears[:2] if self.scores else []), *(self.linears[2:] if self.values else [])]

    def refusals(self) -> list[str]:
        """What stays as it is, and why."""
        named = zip("qkv", self.rows, strict=True)
        lacking = [f"{name} is no plain output of a linear, or not its alone" for name, rows in named if rows is None]
        return (
            lacking if self.values or self.rows[2] is None else [*lacking, "its output is not read by one linear alone"]
        )

    def _rows(self, position: int) -> Tensor | None:
        """The rows of the linear that are this operand, `[heads · head_dim]`; None where others read them too."""
        linear, operand = self.linears[position], self.operands[position]
        if not affine.has_constant_weight(linear):
            return None
        places = channels_at(self.program, linear, operand)
        if places.dim() != 4 or not torch.equal(places, places[:1, :, :1].expand_as(places)):
            return None
        rows = places[0, :, 0].flatten()
        others = [value for _, value in consumers_after_moves(linear) if value is not operand]
        taken = [channels_at(self.program, linear, value).flatten() for value in others]
        shared = any(bool(torch.isin(rows, each).any()) for each in taken)
        return None if shared or int(torch.bincount(rows).max()) > 1 else rows

    def balance(self, seen: Mapping[fx.Node, ChannelStatistics], alpha: float) -> None:
        """Choose shifts and factors for the rows of q, k and v, and fold them in."""
        moves = dict[fx.Node, list[tuple[Tensor, Tensor, Tensor]]]()
        amax = None
        if self.scores:
            (q, _), (k, mean) = (self._amax(position, seen) for position in (0, 1))
            t = (k / q).sqrt()
            amax = (q * t).amax()
            self._plan(moves, 0, torch.zeros_like(t), t)
            self._plan(moves, 1, mean, 1 / t)
        if self.values:
            v, mean = self._amax(2, seen)
            columns = self._columns()
            weights = affine.weight(self.program, self.proj).abs().amax(0)[columns]
            still = v <= _SMALLEST * mean.abs().clamp(min=1.0)  # one number for all tokens of all images: its mean
            u = v**alpha / weights.clamp(min=_SMALLEST) ** (1 - alpha)
            u = u * (v / u).amax() / (v.amax() if amax is None else amax)
            u = u.where(~still, 1.0)
            self._plan(moves, 2, mean, 1 / u)
            self._return(columns, mean, u)
        for linear, parts in moves.items():
            self._rescale(linear, *(torch.cat(each) for each in zip(*parts, strict=True)))

    def _plan(self, moves: dict[fx.Node, list[tuple[Tensor, Tensor, Tensor]]], position: int, *how: Tensor) -> None:
        rows = self.rows[position]
        assert rows is not None
        moves.setdefault(self.linears[position], []).append((rows, *how))  # type: ignore[arg-type]

    def _amax(self, position: int, seen: Mapping[fx.Node, ChannelStatistics]) -> tuple[Tensor, Tensor]:
        """The largest magnitude of each row once it gave up its mean, and that mean: zero where no bias can take it."""
        rows, channels = self.rows[position], seen[self.linears[position]]
        holders = [[], self.linears[1:2], [self.linears[2], self.proj]][position]
        free = holders and all(affine.bias(self.program, each) is not None for each in holders)
        mean = channels.mean[rows] if free else torch.zeros_like(channels.mean[rows])
        amax = torch.maximum(channels.most[rows] - mean, mean - channels.least[rows])
        return amax.clamp(min=_SMALLEST), mean

    def _columns(self) -> Tensor:
        """Which input of proj each channel of each head is, `[heads · head_dim]`."""
        shape = self.site.node.meta["type"].at(1)
        numbers = torch.arange(shape[1] * shape[3], dtype=torch.float64).reshape(1, shape[1], 1, shape[3])
        places = moved(self.program, self.site.node, numbers.expand(shape), self.merged)
        return places.flatten(0, -2)[0].argsort()

    def _return(self, columns: Tensor, mean: Tensor, u: Tensor) -> None:
        """proj restores what v gave up."""
        shift, spread = (torch.empty(len(columns)).index_copy(0, columns, values) for values in (mean, u))
        bias = affine.bias(self.program, self.proj)
        if bias is not None:
            shifted = bias + affine.weight(self.program, self.proj) @ shift
            affine.set_constant(self.program, self.proj, "bias", shifted, _SUFFIX)
        affine.scale_weight(self.program, self.proj, spread, _SUFFIX)

    def _rescale(self, linear: fx.Node, rows: Tensor, mean: Tensor, factor: Tensor) -> None:
        """Rows of a linear: y becomes (y - mean) · factor."""
        factors = torch.ones(linear.meta["type"].shape[-1]).index_copy(0, rows, factor)
        bias = affine.bias(self.program, linear)
        if bias is not None:
            shifted = bias.index_add(0, rows, -mean) * factors
            affine.set_constant(self.program, linear, "bias", shifted, _SUFFIX)
        affine.scale_weight(self.program, linear, factors.unsqueeze(1), _SUFFIX)
