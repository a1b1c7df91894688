"""Centre the channels that the second pointwise convolution of an inverted bottleneck reads; its bias makes up for it.

Before:
    d = aten.conv2d.default(x, w_depthwise, …, groups=C)
    a = aten.hardswish.default(d)                             # channels range from -0.4 to values of their own: asymmetric
    y = aten.conv2d.default(a, w, b, …)                       # pointwise

After:
    centred = aten.sub.Tensor(a, z)                           # z_c = (max_c + min_c) / 2, [C, 1, 1]
    y = aten.conv2d.default(centred, w, b_shifted, …)         # b_shifted_j = b_j + Σ_c z_c w_jc

(Trio-ViT, arXiv 2405.03882, filter-wise shifting, eq. 9 and 10.) A symmetric INT8 scale then covers half the range it had
to. A padded convolution is refused: what it reads beyond the border is zero and would be shifted too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, fx

from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import LinearSite, find_sites
from vitgraph.domains import Selectors
from vitgraph.ir.calls import WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.operator_classes import ACTIVATIONS
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes import affine
from vitgraph.quantizing.calibration import observe_channels


@dataclass(frozen=True)
class FilterShift(Pass):
    """Trio-ViT's filter-wise shifting, for pointwise convolutions that consume a depthwise one and its activation."""

    name: ClassVar[str] = "filter-shift"
    effect: ClassVar[Effect] = Effect.REORDERS

    only: Selectors = ()
    """Work on these sites only (selectors: roles, paths, bounds); all second pointwise convolutions where none are named."""
    skip: Selectors = ()
    """Leave these sites alone."""

    @property
    def needs_images(self) -> bool:
        """Channels are seen on images."""
        return True

    def run(self, program: Program, context: Context) -> None:
        """Observe the channels, then rewrite."""
        linears = find_sites(program).linears
        depthwise = {site.node for site in linears if site.role == "depthwise"}
        chosen = select(linears, self.only, self.skip)
        seconds = [site for site in chosen if self.only or _is_second(site, depthwise)]
        sites = [site for site in seconds if _takes(program, site, depthwise, context)]
        inputs: list[Any] = [site.node.args[0] for site in sites]
        with context.timed("calibration"):
            seen = observe_channels(program, inputs, context.images, context.progress, axis=1) if sites else []
        for site, channels in zip(sites, seen, strict=True):
            if context.take(self.name, site.path):
                _shift(program, site, (channels.most + channels.least) / 2)


def _is_second(site: LinearSite, depthwise: set[fx.Node]) -> bool:
    """Does it read a depthwise convolution's activation (shifted or not)?"""
    source: Any = site.node.args[0]
    if source.target is aten.sub.Tensor:
        source = source.args[0]
    return site.also_named == "pointwise" and source.target in ACTIVATIONS and source.args[0] in depthwise


def _takes(program: Program, site: LinearSite, depthwise: set[fx.Node], context: Context) -> bool:
    call = WeightedCall(site.node)
    source = call.data
    if not _is_second(site, depthwise):
        context.refuse(site.path, "it does not read a depthwise convolution's activation")
    elif source.target is aten.sub.Tensor:
        context.refuse(site.path, "its input is shifted already")
    elif site.node.meta["type"].rank != 4:
        context.refuse(site.path, "its input has no batch")
    elif call.pads:
        context.refuse(site.path, "it pads its input with zeros, which a shift would move")
    elif call.weight is not weight_of(site.node):
        context.refuse(site.path, "its weight is computed, masked or quantized")
    elif call.bias is not None and program.constant(call.bias) is None:
        context.refuse(site.path, "its bias is computed")
    else:
        return True
    return False


def _shift(program: Program, site: LinearSite, centre: Tensor) -> None:
    call, weight = WeightedCall(site.node), weight_of(site.node)
    bias = affine.bias(program, site.node)
    values = program.tensor(str(weight.target)).detach()
    moved = affine.response(values, centre)
    name = f"{weight.target}_centre"
    z = program.constant_node(site.node, name, centre.to(values.dtype).reshape(-1, 1, 1))
    centred = program.insert(site.node, aten.sub.Tensor, call.data, z, path=call.data.meta.get("path", ""))
    call.data = centred
    if bias is None:
        call.bias = program.constant_node(site.node, f"{weight.target}_shift", moved, trainable=True)
    else:
        affine.set_constant(program, site.node, "bias", bias + moved, "shifted")
