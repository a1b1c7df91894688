"""Equalize the channels that a depthwise convolution reads, so that one input scale serves all of them.

Before:
    y = aten.conv2d.default(x, w, b, …, groups=C)             # some channels of x are far larger than the others

After:
    even = aten.mul.Tensor(x, r_inverse)                      # r_inverse = 1/r, [C, 1, 1]
    y = aten.conv2d.default(even, w_migrated, b, …, groups=C)  # w_migrated = w * r: filter c reads channel c alone

with r_c = max_c / max(q99, mean(max)) between `least` and `most`, 1 where a channel is always zero (Trio-ViT, arXiv
2405.03882, §IV-B, and its code). Each filter has a scale of its own, so the weights lose nothing. A constant product that
stands there already takes the factor in, and so does a convolution upstream, directly or through a ReLU.

In two things the defaults differ from the paper's, `range=max least=0.1 most=64`. The filters pay nothing for wider
limits; what lies beyond them stays uneven. And max_c is not the largest value of all images but the mean of what each image reaches:
where every channel ends at the largest value seen, in every channel an image not seen is clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, fx

from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import LinearSite, find_sites
from vitgraph.domains import OneOrMore, Selectors, Share
from vitgraph.ir.call_arguments import argument, set_argument
from vitgraph.ir.calls import BinaryCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.quantizing.calibration import Observer, observe, observe_channels
from vitgraph.quantizing.scales import threshold

_EVEN = 1.01
"""Factors that differ by less than this are left alone."""
_HOMOGENEOUS = (aten.relu.default, aten.leaky_relu.default)
"""f(x / r) = f(x) / r for positive r. Hardswish is not."""


@dataclass(frozen=True)
class ChannelMigrate(Pass):
    """Trio-ViT's channel-wise migration, for depthwise convolutions."""

    name: ClassVar[str] = "channel-migrate"
    effect: ClassVar[Effect] = Effect.REORDERS

    least: Share = 2.0**-12
    """The smallest factor; 0.1 in the paper."""
    most: OneOrMore = 2.0**12
    """The largest factor; 64 in the paper."""
    range: Literal["typical", "max"] = "typical"
    """A channel's range: what an image reaches in the mean, or the largest value of all images (the paper's)."""
    only: Selectors = ()
    """Work on these sites only (selectors: roles, paths, bounds); all depthwise convolutions where none are named."""
    skip: Selectors = ()
    """Leave these sites alone."""

    @property
    def needs_images(self) -> bool:
        """Channels are seen on images."""
        return True

    def run(self, program: Program, context: Context) -> None:
        """Observe the channels, then rewrite."""
        chosen = select(find_sites(program).linears, self.only, self.skip, ("depthwise",))
        sites = [site for site in chosen if _takes(site, context)]
        inputs: list[Any] = [site.node.args[0] for site in sites]
        with context.timed("calibration"):
            seen = self._observe(program, inputs, context) if sites else []
        for site, (amaxes, usual) in zip(sites, seen, strict=True):
            factors = self._factors(amaxes, usual)
            if float(factors.max() / factors.min()) < _EVEN:
                context.refuse(site.path, "its input's channels are even already")
            elif context.take(self.name, site.path):
                _migrate(program, site, factors)

    def _observe(self, program: Program, nodes: list[fx.Node], context: Context) -> list[tuple[Tensor, float]]:
        """Of each value: the range of each channel `[C]`, and the magnitude that 99 % of all values stay under."""
        channels = observe_channels(program, nodes, context.images, context.progress, axis=1)
        whole = observe(program, [Observer(node) for node in nodes], context.images, progress=context.progress)
        amaxes = [each.typical if self.range == "typical" else each.largest for each in channels]
        return list(zip(amaxes, [threshold(each, "percentile", 99.0) for each in whole], strict=True))

    def _factors(self, amaxes: Tensor, usual: float) -> Tensor:
        """r, `[C]`."""
        factors = (amaxes / max(usual, float(amaxes.mean()))).clamp(self.least, self.most)
        return torch.where(amaxes > 0, factors, 1.0)


def _takes(site: LinearSite, context: Context) -> bool:
    if site.role != "depthwise":
        context.refuse(site.path, "it is no depthwise convolution: its filters read several channels")
    elif site.node.meta["type"].rank != 4:
        context.refuse(site.path, "its input has no batch")
    elif WeightedCall(site.node).weight is not weight_of(site.node):
        context.refuse(site.path, "its weight is computed, masked or quantized")
    else:
        return True
    return False


def _migrate(program: Program, site: LinearSite, factors: Tensor) -> None:
    source: Any = site.node.args[0]
    weight = weight_of(site.node)
    _scale(program, site.node, "weight", factors.reshape(-1, 1, 1, 1))
    constant = _constant_factor(program, source)
    producer = _producer(source)
    if constant is not None:
        factor = program.constant_node(source, f"{constant.target}_migrated", _evened(program, constant, factors))
        BinaryCall(source).right = factor
    elif producer is not None:
        _scale(program, producer, "weight", 1 / factors.reshape(-1, 1, 1, 1))
        if WeightedCall(producer).bias is not None:
            _scale(program, producer, "bias", 1 / factors)
    else:
        factor = program.constant_node(site.node, f"{weight.target}_migrate", 1 / factors.reshape(-1, 1, 1))
        even = program.insert(site.node, aten.mul.Tensor, source, factor, path=source.meta.get("path", ""))
        site.node.update_arg(0, even)


def _scale(program: Program, node: fx.Node, name: str, factors: Tensor) -> None:
    """Multiply a weight or bias of a convolution."""
    old = argument(node, name)
    values = program.tensor(str(old.target))
    trainable = isinstance(values, torch.nn.Parameter)
    scaled = program.constant_node(node, f"{old.target}_migrated", values.detach() * factors, trainable)
    set_argument(node, name, scaled)


def _constant_factor(program: Program, source: fx.Node) -> fx.Node | None:
    """The factor of a product that stands there already, read by this site alone: one number a channel."""
    if source.target is not aten.mul.Tensor or len(source.users) != 1:
        return None
    factor = BinaryCall(source).right
    value = program.constant(factor)
    fits = value is not None and value.dim() >= 3 and value.numel() == value.shape[-3]
    return factor if isinstance(factor, fx.Node) and fits else None


def _evened(program: Program, constant: fx.Node, factors: Tensor) -> Tensor:
    """The product's factor with ours in it, `[C, 1, 1]`."""
    old = program.tensor(str(constant.target)).detach()
    return old.reshape(-1, 1, 1) / factors.reshape(-1, 1, 1)


def _producer(source: fx.Node) -> fx.Node | None:
    """The convolution that can absorb the factors: directly or through a ReLU, and read by nobody else."""
    while source.target in _HOMOGENEOUS and len(source.users) == 1:
        source = source.args[0]  # type: ignore[assignment]
    alone = source.target is aten.conv2d.default and len(source.users) == 1
    call = WeightedCall(source) if alone else None
    plain = call is not None and call.weight.op == "get_attr" and (call.bias is None or call.bias.op == "get_attr")
    return source if plain else None
