"""Give channels another order, so that an N:M mask of the linear that reads them keeps more.

Before:
    h = aten.linear.default(x, w1, b1)
    g = aten.gelu.default(h)
    y = aten.linear.default(g, w2, b2)

After:
    h = aten.linear.default(x, w1_permuted, b1_permuted)      # rows in another order
    g = aten.gelu.default(h)
    y = aten.linear.default(g, w2_permuted, b2)               # columns in the same order

The same numbers, summed in another order (Pool and Yu, NeurIPS 2021: channel permutations for N:M sparsity), and nothing
at run time. Legal are the hidden units of an MLP, and the channels of v within a head. The residual stream has one order
for all that read it and write to it, so qkv and fc1 are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, fx

from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import LinearSite, find_sites
from vitgraph.domains import Count, Repeats, Selectors
from vitgraph.errors import InputError, PassError
from vitgraph.images.calibration_data import Images
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import PermutedFinding
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes import affine
from vitgraph.passes.sparsity.existing_patterns import existing_pattern
from vitgraph.passes.sparsity.mask_insertion import is_masked
from vitgraph.passes.sparsity.permutation import ChannelGroup, find_channels, find_order, kept_share
from vitgraph.quantizing.calibration import Observer, runs
from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.targets.target import Target

_SUFFIX = "permuted"


@dataclass(frozen=True)
class PermuteChannels(Pass):
    """Bring channels together of which `n` of each `m` hold as much as can be."""

    name: ClassVar[str] = "permute-channels"
    effect: ClassVar[Effect] = Effect.REORDERS
    without_images: ClassVar[str] = "score=magnitude takes none"

    n: Count = 2
    """How many weights of each `m` the mask to come keeps."""
    m: Count = 4
    """How many neighbours along K are one group."""
    score: Literal["magnitude", "wanda"] = "magnitude"
    """What is to be kept: the weights' magnitude; times the norm of the input, which takes images."""
    rounds: Repeats = 100
    """How often columns are exchanged between groups."""
    only: Selectors = ()
    """Work on these sites only (selectors: roles, paths, bounds); all linears of blocks where none are named."""
    skip: Selectors = ()
    """Leave these sites alone."""

    @property
    def needs_images(self) -> bool:
        """The norms of inputs are seen on images."""
        return self.score == "wanda"

    def check(self, target: Target | None, images: Images | None) -> None:
        """A pattern that is none."""
        super().check(target, images)
        if self.n >= self.m:
            raise InputError(f"n={self.n} m={self.m}: n of m weights stay, with 0 < n < m; write n=2 m=4")

    def run(self, program: Program, context: Context) -> None:
        """Reorder what the chosen linears read."""
        found = dict[LinearSite, ChannelGroup]()
        for site in select(find_sites(program).linears, self.only, self.skip, BLOCK_ROLES):
            channels = self._channels(program, site)
            if isinstance(channels, str):
                context.refuse(site.path, channels)
            elif context.take(self.name, site.path):
                found[site] = channels
        checkpoint = Checkpoint.of(context.scratch, program, repr(self), context.images if self.needs_images else None)
        known = {site: part for number, site in enumerate(found) if (part := checkpoint.read(number)) is not None}
        norms = self._norms(program, [site for site in found if site not in known], context)
        for done, (site, channels) in enumerate(found.items()):
            context.progress("permutation", done, len(found))
            part = known.get(site) or self._order(program, site, channels, norms)
            checkpoint.write(done, part)
            permute(program, site.node, channels, part["order"])
            before, after = (round(float(share), 6) for share in part["kept"])
            context.findings.append(PermutedFinding(site.path, before, after))
        context.progress("permutation", len(found), len(found))

    def _channels(self, program: Program, site: LinearSite) -> ChannelGroup | str:
        """The channels that a site reads, or why they stay as they are."""
        if site.is_conv:
            return "it is a convolution"
        if site.k % self.m:
            return f"K = {site.k} is no multiple of {self.m}"
        channels = find_channels(program, site.node)
        if isinstance(channels, str):
            return channels
        if any(is_masked(node) for node in (site.node, channels.source)):
            return "a mask is on it, whose groups would fall apart; permute ahead of nm-mask"
        came = existing_pattern(affine.weight(program, site.node))
        if came is not None:
            return f"its weight came {came} sparse, and the groups would fall apart"
        return channels

    def _order(
        self, program: Program, site: LinearSite, channels: ChannelGroup, norms: Mapping[fx.Node, Tensor]
    ) -> dict[str, Tensor]:
        """The `order` of a site's channels, and which share is `kept` before and after."""
        saliency = affine.weight(program, site.node).abs() * norms.get(site.node, torch.ones(()))
        order = find_order(saliency, self.n, self.m, channels.parts, self.rounds)
        shares = [kept_share(each, self.n, self.m) for each in (saliency, saliency[:, order])]
        return {"order": order, "kept": torch.tensor(shares, dtype=torch.float64)}

    def _norms(self, program: Program, sites: list[LinearSite], context: Context) -> Mapping[fx.Node, Tensor]:
        """Root mean squares of the inputs of these sites, `[K]` each; none where they are not asked for."""
        if not self.needs_images or not sites:
            return {}
        observers = [Observer(node) for site in sites for node in site.node.all_input_nodes[:1]]
        totals = [torch.zeros(site.k, dtype=torch.float64) for site in sites]
        with context.timed("calibration"):
            for values in runs(program, observers, context.images, context.progress, "calibration: norms"):
                for total, value in zip(totals, values, strict=True):
                    total += value.double().square().flatten(0, -2).sum(0)
        return {site.node: total.sqrt().float() for site, total in zip(sites, totals, strict=True)}


def permute(program: Program, reader: fx.Node, channels: ChannelGroup, order: Tensor) -> None:
    """Let input j of `reader` be what input `order[j]` was. Raises `PassError` for an order that `channels` does not allow."""
    if not channels.holds(order):
        raise PassError(f"permute-channels: {reader.name}: an order that leaves a head, or that is no permutation")
    rows = torch.arange(channels.source.meta["type"].shape[-1])
    rows[channels.rows] = channels.rows[order]
    bias = affine.bias(program, channels.source)
    if bias is not None:
        affine.set_constant(program, channels.source, "bias", bias[rows], _SUFFIX)
    affine.set_constant(program, channels.source, "weight", affine.weight(program, channels.source)[rows], _SUFFIX)
    affine.set_constant(program, reader, "weight", affine.weight(program, reader)[:, order], _SUFFIX)
