"""What `block-prune` shares a budget out among: tiles of a weight, or units that a weight reads, with the mask of each choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from vitgraph.analysis.sites import LinearSite
from vitgraph.ir.mask_patterns import linears
from vitgraph.ir.program import Program
from vitgraph.passes import affine
from vitgraph.passes.pruning.allocation import Part
from vitgraph.passes.pruning.block_cost import Meter
from vitgraph.passes.pruning.prunable_units import NOBODY, PrunableUnits, find_units
from vitgraph.passes.pruning.tiles import Curve, Tiling, cut
from vitgraph.passes.sparsity.existing_patterns import existing_pattern
from vitgraph.passes.sparsity.mask_insertion import mask_refusal
from vitgraph.targets.target import Target


@dataclass(frozen=True)
class Prunable:
    """A weight cut into tiles; or one that reads units, with a band of columns for each."""

    site: LinearSite
    tiling: Tiling
    multiple: int
    """Tiles, or units, go so many at a time."""
    side: int
    """The shorter side of a tile; 0 of units."""
    units: PrunableUnits | None = None

    def keeps(self, program: Program, stays: Tensor) -> dict[fx.Node, Tensor]:
        """Masks, `[out, K]`, for the tiles or units that stay, `[count]`: with a unit's columns go its rows."""
        keeps = {self.site.node: self.tiling.spread(stays)}
        for linear, owners in self.units.writers.items() if self.units else ():
            rows = stays[owners] | (owners == NOBODY)
            keeps[linear] = rows.unsqueeze(1).expand(affine.weight(program, linear).shape).contiguous()
        return keeps

    def steps(self, least: float) -> tuple[int, ...]:
        """How many may go, ascending from 0, where at least the share `least` stays, and one."""
        count = self.tiling.count
        most = (count - 1) // self.multiple * self.multiple
        return (0, *(count - left for left in range(most, max(1, math.ceil(least * count)) - 1, -self.multiple)))


def tiles_of(site: LinearSite, rows: int, columns: int) -> Prunable | str:
    """The tiles of a site's weight; or why it has none."""
    if site.is_conv:
        return "it is a convolution, which has no tiles"
    tiling = cut((site.n, site.k), rows, columns)
    return mask_refusal(site.node) or Prunable(site, tiling, 1, min(rows, columns))


def units_of(program: Program, site: LinearSite, multiple: int) -> Prunable | str:
    """The units that a site reads, hidden ones so many at a time; or why it reads none that may go."""
    units = find_units(program, site.node)
    if isinstance(units, str):
        return units
    for linear in (site.node, *units.writers):
        why = mask_refusal(linear)
        if why is not None:
            return why
    tiling = Tiling(torch.zeros(site.n, dtype=torch.long), units.columns)
    return Prunable(site, tiling, multiple if units.attention is None else 1, 0, units)


def hold_patterns(program: Program, keeps: Mapping[fx.Node, Tensor], target: Target | None) -> dict[fx.Node, Tensor]:
    """Masks without the N:M zeros that weights came with, which a fit would fill; declared on the program from here on."""
    places, held = linears(program), dict[fx.Node, Tensor]()
    for linear, keep in keeps.items():
        weight = affine.weight(program, linear)
        pattern = existing_pattern(weight, target)
        if pattern is not None:
            held[linear] = keep & (weight != 0)
            program.masks[places[linear]] = pattern
    return held


def parts_of(
    chosen: Sequence[Prunable], curves: Sequence[Curve], meter: Meter, power: float, least: float
) -> list[Part]:
    """A part for each of `chosen`, with `power` times LPViT's power term added to its curve.

    The term is what the *surviving* share of a weight draws, so that giving up what draws much is worth more. (The paper's
    code has it grow with the share that is pruned, which does the opposite of what the paper is for.)
    """
    drawn = [curve.shares(each.tiling) * power_of(each.site) for each, curve in zip(chosen, curves, strict=True)]
    losses, most = (sum(float(curve.loss.max()) for curve in curves), sum(float(each[0]) for each in drawn))
    weight = power * losses / most if most else 0.0
    return [_part(*each, meter, least) for each in zip(chosen, curves, [weight * each for each in drawn], strict=True)]


def power_of(site: LinearSite) -> float:
    """What a dense linear draws, in LPViT's measure: its numbers times K in sixteens. The size of tiles cancels out."""
    return float(site.n * site.k * (site.k // 16))


def _part(each: Prunable, curve: Curve, added: Tensor, meter: Meter, least: float) -> Part:
    shares, loss = curve.shares(each.tiling), curve.loss + added
    cost = meter.of_tiles(each.site.node, each.side) if each.units is None else meter.of_units(each.units)
    return Part(
        each.site.path, each.steps(least), lambda lost: float(loss[lost]), lambda lost: cost(float(shares[lost]))
    )
