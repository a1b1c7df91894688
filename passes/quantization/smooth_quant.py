"""Move range and offset of a linear's input channels into its weight and bias, so that one INT8 scale serves them all.

Before:
    y = aten.linear.default(x, w, b)                          # some channels of x are far larger, or far from zero

After:
    even = aten.mul.Tensor(x, w_smooth)                       # 1/s, one number a channel, s > 0
    centred = aten.sub.Tensor(even, w_shift)                  # z/s
    y = aten.linear.default(centred, w_smoothed, b_smoothed)  # w s, b + w z

with s = max|x - z|^alpha / max|w|^(1 - alpha), channel by channel: SmoothQuant's migration (Xiao et al., arXiv 2211.10438,
eq. 4), and z the middle of the channel's range (Outlier Suppression+, Wei et al., arXiv 2304.09145): what GELU outputs
lies nearly all on one side of zero, and a symmetric scale would leave half its steps unused. Alpha, and whether to shift,
are chosen for each value by the error that the quantized products would have; without a shift there is no `sub`.

Where x is a layer norm that only such linears read, z and s go into the norm's weight and bias; elsewhere both operators
stay in the graph, where the builder folds them into the kernel that rounds x: they cost no layer. Of a 1×1 convolution the
channels lie ahead of rows and columns, and 1/s and z/s are `[C, 1, 1]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, fx

from vitgraph.analysis.channel_flow import before_moves, channels_at, consumers_after_moves
from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import LinearSite, find_sites
from vitgraph.domains import Fraction, Selectors
from vitgraph.ir import dialect
from vitgraph.ir.calls import LayerNormCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import before_layout, path_of
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes import affine
from vitgraph.passes.quantization.migration import ALPHAS, ChannelRange, Rows, best_migration, factors, sample_rows
from vitgraph.quantizing.calibration import ChannelStatistics, observe_channels

LEAST_ROWS = 16
"""The largest of fewer numbers tells more of chance than of a channel: a small SigLIP's pooled output, calibrated on 2, 4, 8 and 16
images, had a cosine of 0.930, 0.988, 0.998 and 0.999 with factors, and 0.998 to 0.9996 without."""
_SUFFIX = "smoothed"
_AS_IT_IS = (0.0,)
"""Tried of convolutions too: MobileViT-XXS has many whose rounding only gets worse."""


@dataclass(frozen=True)
class SmoothQuant(Pass):
    """SmoothQuant's migration for linears that share a value with nobody else."""

    name: ClassVar[str] = "smooth-quant"
    effect: ClassVar[Effect] = Effect.REORDERS

    alpha: Fraction | Literal["auto"] = "auto"
    """How much of the range moves: 0 leaves the inputs, 1 equalizes them wholly; `auto` tries some for each value."""
    shift: bool | Literal["auto"] = "auto"
    """Also centre each channel, where the linears have a bias to make up for it; `auto` tries both for each value."""
    only: Selectors = ()
    """Work on these sites only (selectors: roles, paths, bounds); all linears of blocks where none are named."""
    skip: Selectors = ()
    """Leave these sites alone."""

    @property
    def needs_images(self) -> bool:
        """Channels are seen on images."""
        return True

    def run(self, program: Program, context: Context) -> None:
        """Observe the channels, then rewrite."""
        chosen = select(find_sites(program).linears, self.only, self.skip, BLOCK_ROLES)
        groups = _group(program, [site for site in chosen if self._takes(program, site, context)], context)
        with context.timed("calibration"):
            axes = [affine.channel_axis(linears[0]) for linears in groups.values()]
            seen = observe_channels(program, list(groups), context.images, context.progress, axes) if groups else []
            rows = self._sample(program, [linear for linears in groups.values() for linear in linears], context)
        for (value, linears), channels in zip(groups.items(), seen, strict=True):
            if channels.rows < LEAST_ROWS:
                why = (
                    f"the images have {channels.rows} rows of its input, too few to tell channels apart ({LEAST_ROWS})"
                )
                context.refuse(path_of(linears[0]), why)
            elif context.take(self.name, path_of(linears[0])):
                self._migrate(program, value, linears, channels, rows, context)

    def _sample(self, program: Program, linears: list[fx.Node], context: Context) -> dict[fx.Node, Rows]:
        if not linears or "auto" not in (self.alpha, self.shift):
            return {}
        return sample_rows(program, linears, context.images, context.progress)

    def _takes(self, program: Program, site: LinearSite, context: Context) -> bool:
        source: Any = site.node.args[0]
        if before_layout(source).target is dialect.attention and not self.only:
            return False  # balance-attention's part
        if site.is_conv and not _is_at_each_position(site):
            context.refuse(site.path, "it is a convolution of windows, of some positions, or without a batch")
        elif before_layout(source).target is dialect.attention:
            context.refuse(site.path, "its input is an attention's output, which balance-attention equalizes")
        elif not affine.is_constant(site.node):
            context.refuse(site.path, "its weight or bias is computed")
        elif affine.is_tied(program, site.node):
            context.refuse(site.path, affine.TIED)
        else:
            return True
        return False

    def _migrate(
        self,
        program: Program,
        value: fx.Node,
        linears: Sequence[fx.Node],
        channels: ChannelStatistics,
        rows: Mapping[fx.Node, Rows],
        context: Context,
    ) -> None:
        norm = _is_affine_norm(value)
        weights = [affine.weight(program, linear).flatten(1) for linear in linears]
        conv = linears[0].target is aten.conv2d.default
        alphas = (*(_AS_IT_IS if conv else ()), *ALPHAS) if self.alpha == "auto" else (self.alpha,)
        centred = self._centred(program, value, linears, norm)
        ranges = [ChannelRange.of(channels, each, spare=not norm) for each in centred]
        samples = [rows[linear] for linear in linears if linear in rows]
        span, alpha = best_migration(ranges, alphas, weights, samples, kept=not norm)
        s = factors(span.largest, weights, alpha)
        shifted = bool(span.shift.any())
        if conv and not alpha and not shifted:
            context.refuse(path_of(linears[0]), "its products are rounded best as they are")
            return
        for linear in linears:
            bias = affine.bias(program, linear)
            if shifted and bias is not None:
                moved = bias + affine.response(affine.weight(program, linear), span.shift)
                affine.set_constant(program, linear, "bias", moved, _SUFFIX)
            affine.scale_weight(program, linear, affine.along_channels(linear, s), _SUFFIX)
        if norm:
            _fold(program, value, span.shift, s)
        else:
            _leave(program, value, linears, span.shift if shifted else None, s)

    def _centred(self, program: Program, value: fx.Node, linears: Sequence[fx.Node], norm: bool) -> tuple[bool, ...]:
        """The candidates: a shift needs a bias that makes up for it in every linear, and one in the norm."""
        holders = [
            *(affine.bias(program, each) for each in linears),
            *([program.constant(LayerNormCall(value).bias)] if norm else []),
        ]
        if not self.shift or any(bias is None for bias in holders):
            return (False,)
        return (False, True) if self.shift == "auto" else (True,)


def _group(program: Program, sites: Sequence[LinearSite], context: Context) -> dict[fx.Node, list[fx.Node]]:
    """Values, and the linears that read each: a layer norm upstream of moves, or else what the linears read themselves."""
    groups, chosen = dict[fx.Node, list[fx.Node]](), {site.node for site in sites}
    for site in sites:
        source: Any = site.node.args[0]
        norm = before_moves(source)
        if _is_affine_norm(norm) and _is_read_by(program, norm, chosen):
            groups.setdefault(norm, []).append(site.node)
        elif site.is_conv or all(_reads_alike(user, site.node) and user in chosen for user in source.users):
            groups.setdefault(source, []).append(site.node)
        else:
            context.refuse(site.path, "others read its input too, and would need the same factors")
    return groups


def _is_at_each_position(site: LinearSite) -> bool:
    """Is a convolution a linear at each position of images in a batch?"""
    return site.also_named is not None and site.role != "pointwise" and site.node.meta["type"].rank == 4


def _reads_alike(user: fx.Node, linear: fx.Node) -> bool:
    """Does a reader of a linear's input read it as that does, the channels in the same dimension?"""
    return user.target is linear.target and user.args[0] is linear.args[0]


def _is_affine_norm(node: fx.Node) -> bool:
    norm = LayerNormCall.of(node)
    return norm is not None and norm.weight is not None and norm.weight.op == "get_attr"


def _is_read_by(program: Program, norm: fx.Node, linears: set[fx.Node]) -> bool:
    """Do only these linears read the norm, each with every channel in its place?"""
    numbers = torch.arange(norm.meta["type"].shape[-1])
    for reader, value in consumers_after_moves(norm):
        if reader not in linears or reader.args[0] is not value:
            return False
        places = channels_at(program, norm, value)
        if places.shape[-1] != len(numbers) or not torch.equal(places, numbers.expand(places.shape)):
            return False
    return True


def _fold(program: Program, norm: fx.Node, z: Tensor, s: Tensor) -> None:
    """The norm outputs (x - z) / s."""
    call = LayerNormCall(norm)
    weight, bias = program.constant(call.weight), program.constant(call.bias)
    assert weight is not None
    affine.set_constant(program, norm, "weight", weight.detach() / s, _SUFFIX)
    if bias is not None:
        affine.set_constant(program, norm, "bias", (bias.detach() - z) / s, _SUFFIX)


def _leave(program: Program, value: fx.Node, linears: Sequence[fx.Node], z: Tensor | None, s: Tensor) -> None:
    """The linears read (x - z) / s, computed in the graph. `quantize` finds the `sub` where it puts its pair."""
    first, path = linears[0], value.meta.get("path", "")
    name = f"{path_of(first)}.input"
    factor = program.constant_node(first, f"{name}_smooth", affine.along_channels(first, 1 / s))
    even = program.insert(first, aten.mul.Tensor, value, factor, path=path)
    if z is not None:
        middle = program.constant_node(first, f"{name}_shift", affine.along_channels(first, z / s))
        even = program.insert(first, aten.sub.Tensor, even, middle, path=path)
    for linear in linears:
        linear.update_arg(0, even)
