"""Move the range of outlier channels from a linear's input into its weight, so that one input scale serves all channels.

Before:
    y = aten.linear.default(x, w, b)                          # some channels of x are far larger than the others

After:
    even = aten.mul.Tensor(x, w_smooth)                       # w_smooth = 1/s, one factor a channel; s > 0
    y = aten.linear.default(even, w_smoothed, b)              # w_smoothed = w * s

with s = max|x|^alpha / max|w|^(1 - alpha), channel by channel (SmoothQuant, Xiao et al., arXiv 2211.10438, eq. 4). Where x is
a layer norm that only this linear reads, the factor goes into the norm's weight and bias; elsewhere the product stays in
the graph, where the builder folds it into the kernel that rounds x: it costs no layer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitgraph import dialect
from vitgraph.calibration import observe_channels
from vitgraph.contract import Context, Effect, Pass
from vitgraph.errors import InputError
from vitgraph.program import Program
from vitgraph.sites import BLOCK_ROLES, LinearSite, behind_layout, find_sites, select, weight_of

aten = torch.ops.aten

_SMALLEST = 1e-5
"""The least channel maximum that counts: a dead channel has nothing to move."""


@dataclass(frozen=True)
class Smooth(Pass):
    """SmoothQuant's migration, for linears that read a value alone."""

    name: ClassVar[str] = "smooth"
    effect: ClassVar[Effect] = Effect.REORDERS

    alpha: float = 0.75
    """How much of the range moves: 0 leaves the inputs, 1 evens them out wholly."""
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def run(self, program: Program, context: Context) -> None:
        """Observe the channels, then rewrite. Raises `InputError` for alpha outside 0…1 or without images."""
        if not 0.0 <= self.alpha <= 1.0:
            raise InputError(f"smooth: alpha={self.alpha}: it is a share, from 0 to 1")
        if context.calibration is None:
            raise InputError("smooth: no calibration images; name some with --calibration-data (or `random`)")
        chosen = select(find_sites(program).linears, self.only, self.skip, BLOCK_ROLES)
        sites = [site for site in chosen if self._takes(site, context)]
        inputs: list[Any] = [site.node.args[0] for site in sites]
        start = time.perf_counter()
        seen = observe_channels(program, inputs, context.calibration, context.progress) if sites else []
        context.timings["calibration"] = context.timings.get("calibration", 0.0) + time.perf_counter() - start
        for site, largest in zip(sites, seen, strict=True):
            if context.take(self.name, site.path):
                _migrate(program, site, self._factors(program, site, largest))

    def _takes(self, site: LinearSite, context: Context) -> bool:
        source: Any = site.node.args[0]
        if site.is_conv:
            context.refuse(site.path, "its channels are not in the last dimension")
        elif len(source.users) != 1:
            context.refuse(site.path, f"{len(source.users)} operators read its input; they would need the same factors")
        elif behind_layout(source).target is dialect.attention:
            context.refuse(
                site.path, "its input is an attention's output, which an INT8 attention hands over quantized"
            )
        elif weight_of(site.node).op != "get_attr":
            context.refuse(site.path, "its weight is computed")
        else:
            return True
        return False

    def _factors(self, program: Program, site: LinearSite, largest: Tensor) -> Tensor:
        """s, `[K]`."""
        weight = program.tensor(str(weight_of(site.node).target)).detach().float().abs().amax(0)
        s = largest.clamp(min=_SMALLEST) ** self.alpha / weight.clamp(min=_SMALLEST) ** (1 - self.alpha)
        return torch.where(largest < _SMALLEST, 1.0, s)


def _migrate(program: Program, site: LinearSite, s: Tensor) -> None:
    source: Any = site.node.args[0]
    weight = weight_of(site.node)
    values = program.tensor(str(weight.target))
    trainable = isinstance(values, torch.nn.Parameter)
    smoothed = program.constant_node(weight.next, f"{weight.target}_smoothed", values.detach() * s, trainable)
    masked: Any = site.node.args[1]
    (site.node if masked is weight else masked).replace_input_with(weight, smoothed)
    affine = source.target is aten.layer_norm.default and program.constant(source.args[2]) is not None
    if not affine:
        factor = program.constant_node(site.node, f"{weight.target}_smooth", 1 / s)
        site.node.update_arg(
            0, program.insert(site.node, aten.mul.Tensor, source, factor, path=source.meta.get("path", ""))
        )
        return
    for position in (2, 3):
        old = program.constant(source.args[position])
        if old is not None:
            name = f"{source.args[position].target}_smoothed"
            new = program.constant_node(source, name, old.detach() / s, isinstance(old, torch.nn.Parameter))
            source.update_arg(position, new)
