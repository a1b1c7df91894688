"""Take hidden units and heads out of the graph that output nothing, or the same whatever comes in.

Before:
    h = aten.linear.default(x, m1, b1)                        # m1: row 7 of w1 is masked; w1 is [3072, 768]
    g = aten.gelu.default(h)
    y = aten.linear.default(g, m2, b2)                        # m2: columns 2 and 3 of w2 are masked

After:
    h = aten.linear.default(x, w1_narrow, b1_narrow)          # [3069, 768]
    g = aten.gelu.default(h)
    y = aten.linear.default(g, w2_narrow, b2_narrow)          # unit 7 gave gelu(b1[7]): now a part of b2

A unit whose column is zero vanishes. One whose row is zero still outputs its activation at the bias, and a head whose
rows of v are zero outputs v's bias, for a mean of equal rows is that row: both go into the bias of what reads them. A
head takes its rows of q, k and v with it, and its plane of the position bias. A mask without zeros left goes too, so
that what is left takes other patterns. A unit of a gated MLP takes its row of the gate and of the value. The same numbers,
summed over fewer of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, fx

from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import LinearSite, find_sites
from vitgraph.domains import Count, Selectors
from vitgraph.ir.calls import LinearCall
from vitgraph.ir.mask_patterns import linears
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.packing import Packing
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import RemovedFinding
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes import affine
from vitgraph.passes.pruning.prunable_units import PrunableUnits, constants, find_units
from vitgraph.passes.pruning.shrink import SUFFIX, let_leave, plan_leaving
from vitgraph.passes.sparsity.existing_patterns import existing_pattern
from vitgraph.passes.sparsity.mask_insertion import is_masked


@dataclass(frozen=True)
class RemovePruned(Pass):
    """Remove what masks emptied."""

    name: ClassVar[str] = "remove-pruned"
    effect: ClassVar[Effect] = Effect.REORDERS

    multiple: Count = 1
    """Hidden units stay so many at a time, empty ones among them: sizes that kernels like."""
    only: Selectors = ()
    """Linears that read the units: fc2 and proj."""
    skip: Selectors = ()
    """Leave these sites alone."""

    def run(self, program: Program, context: Context) -> None:
        """Shrink every chosen site that reads empty units."""
        masks = program.masks
        patterns = {node: masks[place] for node, place in linears(program).items() if place in masks}
        for site in select(find_sites(program).linears, self.only, self.skip, BLOCK_ROLES):
            units = find_units(program, site.node)
            if isinstance(units, str):
                if _reads_nothing_of_some(program, site):
                    context.refuse(site.path, units)
                continue
            vanish, constant = _empty(program, units)
            stays = self._rounded(units, ~(vanish | constant))
            if bool(stays.all()):
                continue
            edits = _pattern_refusal(program, units, patterns) or plan_leaving(program, units, stays)
            if isinstance(edits, str):
                context.refuse(site.path, edits)
            elif context.take(self.name, site.path):
                before = _parameters(program, units)
                _move_into_bias(program, units, constant & ~stays)
                let_leave(program, units, stays, edits)
                gone = before - _parameters(program, units)
                context.findings.append(RemovedFinding(site.path, units.kind, units.count, int(stays.sum()), gone))

    def _rounded(self, units: PrunableUnits, stays: Tensor) -> Tensor:
        """With the first empty ones added where nothing would stay, or no multiple of hidden units."""
        multiple = self.multiple if units.attention is None else 1
        missing = -int(stays.sum()) % multiple if bool(stays.any()) else multiple
        stays = stays.clone()
        stays[(~stays).nonzero()[:missing, 0]] = True
        return stays


def _reads_nothing_of_some(program: Program, site: LinearSite) -> bool:
    """Whether a column is all zero."""
    return affine.has_constant_weight(site.node) and not bool((affine.weight(program, site.node) != 0).any(0).all())


def _pattern_refusal(program: Program, units: PrunableUnits, declared: Mapping[fx.Node, Packing]) -> str | None:
    """Why N:M zeros, of a mask or of weights that came so, would not survive, or None: groups run along columns, of V:N:M along rows too."""

    def pattern(linear: fx.Node) -> Packing | None:
        came = None if is_masked(linear) else existing_pattern(affine.weight(program, linear))
        return declared.get(linear, came)

    shared = any(found.v > 1 for found in map(pattern, units.writers) if found is not None)
    if shared or pattern(units.reader) is not None:
        return "its N:M zeros stand in groups, which would fall apart; take units out ahead of nm-mask"
    return None


def _empty(program: Program, units: PrunableUnits) -> tuple[Tensor, Tensor]:
    """Which units nothing is read of, and which always output the same: bool, `[count]` each."""
    read = (affine.weight(program, units.reader) != 0).any(0)
    fixed, _ = constants(program, units)
    return ~units.of_columns(read), ~units.of_columns(~fixed)


def _move_into_bias(program: Program, units: PrunableUnits, leaving: Tensor) -> None:
    """Add to the reader's bias what it reads of units that always output the same."""
    if not bool(leaving.any()):
        return
    reader, weight = units.reader, affine.weight(program, units.reader)
    z = constants(program, units)[1].masked_fill(~leaving[units.columns], 0.0)
    bias, added = affine.bias(program, reader), affine.response(weight, z)
    if bias is not None:
        affine.set_constant(program, reader, "bias", bias + added, SUFFIX)
        return
    name = f"{weight_of(reader).target}_constant"
    LinearCall(reader).bias = program.constant_node(reader, name, added, trainable=True)


def _parameters(program: Program, units: PrunableUnits) -> int:
    """How many numbers the linears around the units hold."""
    around: tuple[fx.Node, ...] = (units.reader, *units.writers)
    weights = sum(program.tensor(str(weight_of(linear).target)).numel() for linear in around)
    biases = (affine.bias(program, linear) for linear in around)
    return weights + sum(bias.numel() for bias in biases if bias is not None)
