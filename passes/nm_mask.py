"""Put an N:M mask on the weights of the chosen linears: of every M neighbours along K, the N largest stay.

Before:
    y = aten.linear.default(x, weight, bias)

After:
    masked = vitgraph.mask.default(weight, weight_keep)       # weight_keep: bool, the weight's shape
    y = aten.linear.default(x, masked, bias)

The mask is a node until `materialize`, so the program still trains with it. Magnitude scores along the input dimension,
as in ASP (Mishra et al., arXiv 2104.08378); of equal magnitudes the first stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vitgraph import dialect
from vitgraph.contract import Context, Effect, Pass
from vitgraph.errors import InputError
from vitgraph.program import Program
from vitgraph.sites import BLOCK_ROLES, LinearSite, find_sites, select, weight_of


@dataclass(frozen=True)
class NmMask(Pass):
    """Keep `n` of every `m` weights along K, by magnitude."""

    name: ClassVar[str] = "nm-mask"
    effect: ClassVar[Effect] = Effect.LOSSY
    floor_db: ClassVar[float] = 0.5

    n: int = 2
    m: int = 4
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def run(self, program: Program, context: Context) -> None:
        """Mask every chosen site that can take the pattern; `InputError` where none can."""
        if not 0 < self.n < self.m:
            raise InputError(
                f"nm-mask: n={self.n} m={self.m}: a pattern keeps n of m weights, with 0 < n < m; write n=2 m=4"
            )
        sites = select(find_sites(program).linears, self.only, self.skip, BLOCK_ROLES)
        refusals = {site.node: self._refusal(site, context) for site in sites}
        done = any(_is_masked(site) for site in sites)
        if sites and all(refusals.values()) and not done:
            raise InputError(
                f"nm-mask: no site of {program.name} can take {self.n}:{self.m}; {sites[0].path}: {refusals[sites[0].node]}"
                " (choose another pattern, or another target)"
            )
        for site in sites:
            why = refusals[site.node]
            if why is not None:
                context.refuse(site.path, why)
            elif context.take(self.name, site.path):
                _mask(program, site, self.n, self.m)
                context.found.append({"masked": site.path, "n": self.n, "m": self.m})

    def _refusal(self, site: LinearSite, context: Context) -> str | None:
        """Why this site cannot take the pattern, or None."""
        if _is_masked(site):
            return "it has a mask already"
        weight = weight_of(site.node)
        if site.node.args[1] is not weight:
            return "its weight is computed or quantized; a mask goes on the weight itself, ahead of quantize"
        channels = weight.meta["type"].shape[1]
        if channels % self.m:
            return f"K = {channels} is no multiple of {self.m}"
        if context.target is not None and not context.target.supports_nm(self.n, self.m):
            return f"{context.target.name} runs no {self.n}:{self.m} pattern"
        return None


def _is_masked(site: LinearSite) -> bool:
    weight = site.node.args[1]
    return isinstance(weight, torch.fx.Node) and weight.target is dialect.mask


def _mask(program: Program, site: LinearSite, n: int, m: int) -> None:
    weight = weight_of(site.node)
    keep = nm_keep(program.tensor(str(weight.target)), n, m)
    constant = program.constant_node(site.node, f"{weight.target}_keep", keep)
    masked = program.insert(site.node, dialect.mask, site.node.args[1], constant)
    site.node.update_arg(1, masked)


def nm_keep(weight: Tensor, n: int, m: int) -> Tensor:
    """Which weights stay: bool, the shape of `weight` `[out, in, …]`; exactly `n` of each `m` along dimension 1."""
    moved = weight.detach().abs().movedim(1, -1)
    groups = moved.reshape(-1, m)
    order = groups.argsort(dim=1, descending=True, stable=True)
    keep = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order[:, :n], True)
    return keep.reshape(moved.shape).movedim(-1, 1).contiguous()
