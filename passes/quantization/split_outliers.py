"""Split a hidden channel that reaches far beyond all others into equal copies, so that no scale has to serve its range.

Before:
    h = aten.linear.default(x, w1, b1)                        # fc1, [H, K]
    a = aten.gelu.default(h)                                  # one channel reaches 220, the others stay under 8
    y = aten.linear.default(a, w2, b2)                        # fc2, [N, H]

After:
    h = aten.linear.default(x, w1_split, b1_split)            # its row 17 times: [H + 16, K]
    a = aten.gelu.default(h)
    y = aten.linear.default(a, w2_split, b2)                  # its column 17 times, each a 17th: [N, H + 16]

Outlier channel splitting (Zhao et al., arXiv 1901.09504) on the input side: each copy carries a 17th of the product, so that
`smooth-quant` can take a 17th of the range away without making the column's weights 17 times larger. Sixteen channels more
(kernels want multiples of 16) are given out one by one, each to the channel with the largest range per copy; a site is
split only where one channel stands out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import find_sites
from vitgraph.domains import Count, OverOne, Selectors
from vitgraph.ir.operator_classes import ACTIVATIONS
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import SplitFinding
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes import affine
from vitgraph.passes.sparsity.existing_patterns import existing_pattern
from vitgraph.passes.sparsity.mask_insertion import is_masked
from vitgraph.quantizing.calibration import observe_channels


@dataclass(frozen=True)
class SplitOutliers(Pass):
    """Copies of hidden channels that stand out, after an activation, where fc1 and fc2 can be widened."""

    name: ClassVar[str] = "split-outliers"
    effect: ClassVar[Effect] = Effect.REORDERS

    ratio: OverOne = 8.0
    """A channel stands out if it reaches this many times further than 99 % of the channels do."""
    extra: Count = 16
    """How many channels a split site gets more."""
    only: Selectors = ()
    """Work on these sites only (selectors: roles, paths, bounds); every fc2 where none are named."""
    skip: Selectors = ()
    """Leave these sites alone."""

    @property
    def needs_images(self) -> bool:
        """Channels are seen on images."""
        return True

    def run(self, program: Program, context: Context) -> None:
        """Observe what the fc2s read, then widen."""
        chosen = select(find_sites(program).linears, self.only, self.skip, ("fc2",))
        sites = [(site.path, site.node, fc1) for site in chosen for fc1 in _source(site.node)]
        for site in chosen:
            if site.is_conv:
                context.refuse(site.path, "it is a convolution, whose outlier channels are not looked for")
        with context.timed("calibration"):
            inputs: list[Any] = [fc2.args[0] for _, fc2, _ in sites]
            seen = observe_channels(program, inputs, context.images, context.progress) if sites else []
        for (path, fc2, fc1), channels in zip(sites, seen, strict=True):
            amaxes = channels.largest
            if not self._stands_out(amaxes):
                continue
            if _is_sparse(program, fc1, fc2):
                context.refuse(
                    path, "a channel stands out, but copies would stand in groups of the N:M zeros that are there"
                )
                continue
            if not context.take(self.name, path):
                continue
            index, share = _share_out(amaxes, self.extra)
            _widen(program, fc1, fc2, index, share)
            added = int((share < 1).sum())
            context.findings.append(SplitFinding(path, f"{added - self.extra} channel(s) into {added} copies"))

    def _stands_out(self, amaxes: Tensor) -> bool:
        usual = amaxes.sort(descending=True).values[-(-len(amaxes) // 100)]
        return bool(amaxes.amax() > self.ratio * usual.clamp(min=1e-5))


def _source(fc2: fx.Node) -> Iterator[fx.Node]:
    """The fc1 whose activation this linear alone reads; nothing where there is none."""
    activation: Any = fc2.args[0]
    fc1: Any = activation.args[0] if activation.target in ACTIVATIONS else None
    if fc1 is None or len(activation.users) != 1 or len(fc1.users) != 1:
        return
    if all(affine.has_constant_weight(each) for each in (fc1, fc2)):
        yield fc1


def _is_sparse(program: Program, fc1: fx.Node, fc2: fx.Node) -> bool:
    """Whether a mask is on either, or fc2, whose row gets longer, came with a pattern."""
    return is_masked(fc1) or is_masked(fc2) or existing_pattern(affine.weight(program, fc2)) is not None


def _share_out(amaxes: Tensor, extra: int) -> tuple[Tensor, Tensor]:
    """Which old channel each new one copies, `[H + extra]`, and what share of its product it carries."""
    copies = torch.ones_like(amaxes)
    for _ in range(extra):
        copies[(amaxes / copies).argmax()] += 1
    index = torch.cat([torch.arange(len(amaxes)), torch.arange(len(amaxes)).repeat_interleave((copies - 1).long())])
    return index, 1 / copies[index]


def _widen(program: Program, fc1: fx.Node, fc2: fx.Node, index: Tensor, share: Tensor) -> None:
    """Rows of fc1 and columns of fc2 by `index`; what lies between grows with them."""
    affine.set_constant(program, fc1, "weight", affine.weight(program, fc1)[index], "split")
    bias = affine.bias(program, fc1)
    if bias is not None:
        affine.set_constant(program, fc1, "bias", bias[index], "split")
    affine.set_constant(program, fc2, "weight", affine.weight(program, fc2)[:, index] * share, "split")
