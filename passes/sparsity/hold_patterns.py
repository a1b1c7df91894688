"""Put a mask on weights that came with N:M zeros, so that no later pass and no training fills them.

Before:
    y = aten.linear.default(x, weight, bias)                  # weight: 2 of every 4 neighbours along K are zero

After:
    masked = vitgraph.mask.default(weight, weight_keep)       # weight_keep: where the weight is not zero
    y = aten.linear.default(x, masked, bias)

The same numbers. A model that was trained sparse (ASP, Mishra et al., arXiv 2104.08378; GPUSQ-ViT) has its patterns in the
weights and nowhere else, where rounding that is learned or channels in another order would end them. From here on they are a
part of the program (`program.masks`): the verifier holds weights to them, and engines are asked for sparse kernels. A model without such
weights stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import find_sites
from vitgraph.domains import Selectors
from vitgraph.ir.mask_patterns import linears
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.packing import Packing
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import HeldFinding
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.sparsity.existing_patterns import existing_pattern
from vitgraph.passes.sparsity.mask_insertion import insert_mask, mask_refusal
from vitgraph.targets.target import Target


@dataclass(frozen=True)
class HoldPatterns(Pass):
    """Mask what came sparse."""

    name: ClassVar[str] = "hold-patterns"
    effect: ClassVar[Effect] = Effect.EXACT

    only: Selectors = ()
    """Work on these sites only (selectors: roles, paths, bounds); all linears and convolutions where none are named."""
    skip: Selectors = ()
    """Leave these sites alone."""

    def run(self, program: Program, context: Context) -> None:
        """Mask every chosen site whose weight has a pattern that the target, where one is named, multiplies."""
        places = linears(program)
        for site in select(find_sites(program).linears, self.only, self.skip):
            if mask_refusal(site.node) is not None:
                continue  # held already, or a weight that nobody trained
            weight = program.tensor(str(weight_of(site.node).target)).detach()
            pattern = existing_pattern(weight, context.target)
            if pattern is None:
                continue
            why = _refusal(pattern, weight.shape[1], context.target)
            if why is not None:
                context.refuse(site.path, f"{why}: the zeros of its weight are not held")
            elif context.take(self.name, site.path):
                insert_mask(program, site.node, weight != 0)
                program.masks[places[site.node]] = pattern
                context.findings.append(HeldFinding.of(places[site.node], pattern))


def _refusal(pattern: Packing, k: int, target: Target | None) -> str | None:
    """Why the target can't multiply the pattern; None where it can, or has no use for any."""
    return None if target is None or target.sparse is None else target.nm_refusal(pattern, k)
