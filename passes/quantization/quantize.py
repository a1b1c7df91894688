"""Put quantizers where the builder wants them, with scales from calibration images: INT8, or another number format.

Before:
    qkv = aten.linear.default(x, w, b)                        # … split into q, k, v …
    out = vitgraph.attention.default(q, k, v, None, 0.125)
    y = aten.linear.default(merged, w_proj, b_proj)

After:
    xq = vitgraph.fake_quantize.default(x, x_scale, None)     # every linear's input, one scale
    wq = vitgraph.fake_quantize.default(w, w_scale, 0)        # every weight, one scale an output channel
    qkv = aten.linear.default(xq, wq, b)
    qkvq = vitgraph.fake_quantize.default(qkv, qkv_scale, None)
    out = vitgraph.attention.default(q, k, v, None, 0.125, p_scale)   # of the softmax
    y = …                                                     # proj alike; with outputs=true, its output too

Quantizing linear inputs alone makes the builder compute many QKV products in FP16 without a word; a quantizer on the QKV
output prevents that and gives a fused INT8 attention. Structured-sparse INT8 kernels of Ampere need INT8 outputs too.
Where an attention's sizes have no INT8 kernel (head dim, tokens, queries, heads), it stays in floating point and the reason is
recorded.

`weight_format` and `activation_format` name other formats, which then stand on the pairs:
    wq = vitgraph.fake_quantize.default(w, w_scale, 0, 'int4')        # group=64: w_scale [out, in / 64], along axis 1
    xq = vitgraph.fake_quantize.default(x, x_scale, None, 'fp8')
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, fx

from vitgraph.analysis.attention import AttentionSite
from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.analysis.site_selectors import names, select
from vitgraph.analysis.sites import LinearSite, find_sites
from vitgraph.domains import Count, Percent, Selectors
from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.ir import dialect
from vitgraph.ir.calls import AttentionCall, MaskCall, QuantizeCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.formats import FORMATS, Format, FormatName
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.quantization.channel_shifts import move_shift_into_pair
from vitgraph.passes.quantization.left_in_float import left_in_float, refuse_by_role, refuse_others
from vitgraph.passes.quantization.observed_values import ObservedValues
from vitgraph.passes.quantization.qdq_pair import insert_pair
from vitgraph.quantizing.calibration import Observer, mean_squares, observe
from vitgraph.quantizing.fisher import weigh
from vitgraph.quantizing.scales import Method, Statistics, WeightMethod, threshold, weight_scales
from vitgraph.quantizing.softmax_threshold import softmax_thresholds
from vitgraph.targets.target import Target

_PRODUCTS = (("int8", "int8"), ("int4", "int8"), ("int4", "int4"), ("fp8", "fp8"))
"""Formats of weights and activations that are multiplied with each other; every weight also with floating point."""

_GROUPED = "an engine with INT8 grouped convolutions has more layers, not fewer (dense=true)"
_TURNED = "it attends to channels, and no quantized kernel reads operands that are turned round"


@dataclass(frozen=True)
class Quantize(Pass):
    """Insert quantize/dequantize pairs and calibrate them."""

    name: ClassVar[str] = "quantize"
    effect: ClassVar[Effect] = Effect.LOSSY
    floor_db: ClassVar[float] = 3.0
    under_floor: ClassVar[str] = "skip=[…] leaves such sites in floating point"
    without_images: ClassVar[str] = "activation_format=float takes none, without weights=hessian"

    method: Method = "mse"
    """How an activation's threshold is picked: minmax, percentile, entropy, mse or hessian."""
    percentile: Percent = 99.99
    """Of magnitudes, in percent, for `method=percentile`."""
    weights: WeightMethod = "minmax"
    """How a weight's scale is picked: by its largest value, or by the error of the weights or of what they output."""
    per_tensor: bool = False
    """One scale a weight, in place of one an output channel."""
    weight_format: FormatName = "int8"
    """The number format of weights."""
    activation_format: FormatName | Literal["float"] = "int8"
    """float: weights alone are quantized."""
    group: Count | None = None
    """Give each so many weights along a linear's input a scale of their own; None: one scale an output channel."""
    attention: bool = True
    """INT8 attention where the target has a kernel for it."""
    outputs: bool = False
    """Also quantize the outputs of proj and fc2, as sparse INT8 kernels need."""
    dense: bool = False
    """Leave grouped convolutions, depthwise ones among them, in floating point."""
    only: Selectors = ()
    """Work on these sites only (selectors: roles, paths, bounds); all linears of blocks where none are named."""
    skip: Selectors = ()
    """Leave these sites alone; besides linears there is `attention`."""

    @property
    def needs_images(self) -> bool:
        """Activations have scales; weights alone need no image, unless what they multiply weighs their errors."""
        return self.activation_format != "float" or self.weights == "hessian"

    def check(self, target: Target | None, images: Images | None) -> None:
        """Options that contradict each other, or formats that the target has no product for."""
        super().check(target, images)
        why = self._contradiction()
        if why is None and target is not None:
            why = target.product_refusal(self.weight_format, self.activation_format, grouped=self.group is not None)
        if why is not None:
            raise InputError(why)

    def _contradiction(self) -> str | None:
        if self.per_tensor and self.group is not None:
            return f"per_tensor=true group={self.group}: a weight has one scale or one a group; leave one of them out"
        pair = (self.weight_format, self.activation_format)
        if self.activation_format != "float" and pair not in _PRODUCTS:
            known = ", ".join(f"{weight} with {activation}" for weight, activation in _PRODUCTS)
            return (
                f"no kernel multiplies {pair[0]} weights with {pair[1]} activations; take {known}, or float activations"
            )
        if self.method == "entropy" and self.activation_format == "fp8":
            return "method=entropy counts equal steps, which fp8 does not have; take mse or minmax"
        return None

    def run(self, program: Program, context: Context) -> None:
        """Calibrate, then insert."""
        sites = find_sites(program)
        chosen = select(sites.linears, self.only, self.skip, BLOCK_ROLES, others=sites.fused_attentions)
        linears = self._take_linears(chosen, context)
        plan = ObservedValues(linears)
        importance = self._importance(program, linears, context)
        if self.activation_format != "float":
            self._quantize_activations(program, plan, sites.fused_attentions, context)
        for site in linears:
            self._quantize_weight(program, site, importance.get(site.node))
        if not self.only:
            refuse_by_role(sites.linears, chosen, context)
            refuse_others(program, context)
            left = left_in_float(sites.linears, context.refusals)
            context.findings += [left] if left is not None else []

    def _importance(self, program: Program, linears: list[LinearSite], context: Context) -> dict[fx.Node, Tensor]:
        """The mean square of what each weight's columns multiply, for `weights=hessian`; not of convolutions."""
        plain = [site.node for site in linears if site.node.target is aten.linear.default]
        if self.weights != "hessian" or not plain:
            return {}
        sources: list[Any] = list(dict.fromkeys(node.args[0] for node in plain))
        with context.timed("calibration"):
            seen = mean_squares(program, sources, context.images, context.progress)
        known = dict(zip(sources, seen, strict=True))
        return {node: known[node.args[0]] for node in plain}

    def _quantize_activations(
        self, program: Program, plan: ObservedValues, attentions: Sequence[AttentionSite], context: Context
    ) -> None:
        """What the linears read, and the attentions; each in its format."""
        images = context.images
        for attention in attentions:
            why = self._attention_refusal(attention, plan, context)
            if why is not None:
                context.refuse(attention.path, why)
            elif context.take(self.name, attention.path):
                plan.add_attention(attention)
        if self.outputs:
            plan.add_outputs()
        if not plan.values:
            return
        histograms = self.method != "minmax"
        observers = [Observer(node) for node in plan.values] + [
            Observer(site.node, inside=True) for site in plan.attentions
        ]
        with context.timed("calibration"):
            seen = observe(program, observers, images, histograms=histograms, progress=context.progress)
            if self.method == "hessian":
                seen = weigh(program, observers, seen, images, context.progress)
            amaxes = self._softmax_thresholds(program, plan.attentions, seen[len(plan.values) :], context)
        for node, statistics in zip(plan.values, seen, strict=False):
            grid = FORMATS[self.activation_format] if plan.is_for_linears(node) else self._attention_format
            amax = threshold(statistics, self.method, self.percentile, grid)
            self._quantize_value(program, node, plan.values[node], amax, grid)
        for attention, amax in zip(plan.attentions, amaxes, strict=True):
            _quantize_probabilities(program, attention, amax, self._attention_format)

    @property
    def _attention_format(self) -> Format:
        """What attentions, and outputs, are rounded to: no kernel computes or outputs INT4."""
        return FORMATS["int8" if self.activation_format == "int4" else self.activation_format]

    def _take_linears(self, sites: list[LinearSite], context: Context) -> list[LinearSite]:
        """The sites that get a pair; the others are refused."""
        taken = list[LinearSite]()
        for site in sites:
            why = self._linear_refusal(site, context)
            if why is not None:
                context.refuse(site.path, why)
            elif context.take(self.name, site.path):
                taken.append(site)
        return taken

    def _linear_refusal(self, site: LinearSite, context: Context) -> str | None:
        """Why this product gets no pair, or None."""
        if self.dense and site.role in ("depthwise", "grouped"):
            return _GROUPED
        convolution = site.node.target is not aten.linear.default
        if self.group is not None and (convolution or site.k % self.group):
            what = (
                "a convolution has no groups of weights"
                if convolution
                else f"{site.k} inputs are no multiple of {self.group}"
            )
            return f"{what} (group={self.group})"
        if convolution and context.target is not None:
            why = context.target.convolution_refusal(self.weight_format, self.activation_format)
            if why is not None:
                return why
        return _quantized_refusal(site)

    def _attention_refusal(self, site: AttentionSite, plan: ObservedValues, context: Context) -> str | None:
        """Why this attention stays in floating point, or None."""
        if not self.attention:
            return "INT8 attention was not asked for (attention=false)"
        skipping = next((each for each in self.skip if names(site, each)), None)
        if skipping is not None:
            return f"it is to be left alone (skip={skipping})"
        if AttentionCall(site.node).is_rounded:
            return "it is quantized already"
        if not plan.is_consumed_quantized(site.node):
            return "its output does not go into a quantized linear, and an INT8 attention must have an INT8 output"
        if context.target is None:
            return None
        if site.attends_channels:
            return _TURNED
        return site.kernel_refusal(context.target, self._attention_format.name)

    def _softmax_thresholds(
        self, program: Program, sites: list[AttentionSite], seen: list[Statistics], context: Context
    ) -> list[float]:
        """By the error of the attention's output with `mse` and `hessian`; else as all other values."""
        grid = self._attention_format
        if self.method not in ("mse", "hessian"):
            return [threshold(each, self.method, self.percentile, grid) for each in seen]
        nodes, largest = [site.node for site in sites], [each.largest for each in seen]
        if not nodes:
            return []
        return softmax_thresholds(program, nodes, largest, context.images, context.progress, grid)

    def _quantize_value(
        self, program: Program, value: fx.Node, readers: list[fx.Node] | None, amax: float, grid: Format
    ) -> None:
        """Insert a pair after `value`, for these readers or for all; after a shift, around it."""
        name = f"{(readers or [value])[0].meta.get('path') or 'model'}.{'input' if readers else 'output'}_scale"
        chosen = readers if readers is not None else list(value.users)
        source, z = move_shift_into_pair(program, value, chosen)
        insert_pair(program, source, chosen, name, amax / grid.high, grid, z)

    def _quantize_weight(self, program: Program, site: LinearSite, importance: Tensor | None) -> None:
        call, source = WeightedCall(site.node), weight_of(site.node)
        values, mask = program.tensor(str(source.target)), MaskCall.of(call.weight)
        if mask is not None:
            values = values * program.tensor(str(mask.keep.target)).to(values.dtype)
        grid, axis = FORMATS[self.weight_format], None if self.per_tensor else 0 if self.group is None else 1
        scale = weight_scales(values, self.weights, grid, self.group, whole=self.per_tensor, importance=importance)
        constant = program.constant_node(site.node, f"{source.target}_scale", scale)
        arguments = QuantizeCall.written(call.weight, constant, axis, grid)
        call.weight = program.insert(site.node, dialect.fake_quantize, *arguments)


def _quantized_refusal(site: LinearSite) -> str | None:
    """Why this product can't get a pair, or None."""
    x, weight = WeightedCall(site.node).operands
    if dialect.fake_quantize in (x.target, weight.target) or weight.target is dialect.dequantize:
        return "it is quantized already"
    plain = weight.args[0] if weight.target is dialect.mask else weight
    return None if plain is weight_of(site.node) else "its weight is computed, not a constant"


def _quantize_probabilities(program: Program, site: AttentionSite, amax: float, grid: Format) -> None:
    constant = program.constant_node(site.node, f"{site.path}.probability_scale", torch.tensor(amax / grid.high))
    AttentionCall(site.node).round_probabilities(constant, grid)
