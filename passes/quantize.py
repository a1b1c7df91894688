"""Put INT8 quantizers where the builder wants them, with scales from calibration images.

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
Where a head dimension or a number of tokens has no INT8 attention kernel, the attention stays in floating point and the
reason is recorded.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from vitgraph import dialect
from vitgraph.calibration import LEVELS, Method, Point, Statistics, observe, threshold, weight_scales
from vitgraph.contract import Context, Effect, Pass
from vitgraph.errors import InputError
from vitgraph.passes._pairs import insert_pair
from vitgraph.program import Program
from vitgraph.sites import (
    BLOCK_ROLES,
    BRANCH_ENDS,
    LAYOUT,
    AttentionSite,
    LinearSite,
    behind_layout,
    find_sites,
    select,
    weight_of,
)
from vitgraph.softmax_threshold import softmax_thresholds

aten = torch.ops.aten

_GROUPED = "an engine with INT8 grouped convolutions has more layers, not fewer (dense=true)"


@dataclass(frozen=True)
class Quantize(Pass):
    """Insert INT8 quantize/dequantize pairs and calibrate them."""

    name: ClassVar[str] = "quantize"
    effect: ClassVar[Effect] = Effect.LOSSY
    floor_db: ClassVar[float] = 3.0

    method: Method = "mse"
    """How an activation's threshold is picked: minmax, percentile, entropy or mse."""
    percentile: float = 99.99
    weights: Method = "minmax"
    """minmax or mse."""
    attention: bool = True
    """INT8 attention where the target has a kernel for it."""
    outputs: bool = False
    """Also quantize the outputs of proj and fc2, as sparse INT8 kernels need."""
    dense: bool = False
    """Leave grouped convolutions, depthwise ones among them, in floating point."""
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def run(self, program: Program, context: Context) -> None:
        """Calibrate, then insert. Raises `InputError` without calibration images or for a method weights don't have."""
        if self.weights not in ("minmax", "mse"):
            raise InputError(f"quantize: weights={self.weights}: weights take minmax or mse")
        if context.calibration is None:
            raise InputError("quantize: no calibration images; name some with --calibration-data (or `random`)")
        sites = find_sites(program)
        linears = self._take_linears(select(sites.linears, self.only, self.skip, BLOCK_ROLES), context)
        plan = _Plan(program, linears)
        for attention in sites.attentions:
            why = self._attention_refusal(attention, plan, context)
            if why is not None:
                context.refuse(attention.path, why)
            elif context.take(self.name, attention.path):
                plan.add_attention(attention)
        if self.outputs:
            plan.add_outputs()
        if not plan.points:
            return
        start = time.perf_counter()
        histograms = self.method != "minmax"
        points = [Point(node) for node in plan.points] + [Point(site.node, inside=True) for site in plan.attentions]
        seen = observe(program, points, context.calibration, histograms=histograms, progress=context.progress)
        tops = self._softmax_thresholds(program, plan.attentions, seen[len(plan.points) :], context)
        context.timings["calibration"] = context.timings.get("calibration", 0.0) + time.perf_counter() - start
        for node, statistics in zip(plan.points, seen, strict=False):
            self._quantize_value(program, node, plan.points[node], self._scale(statistics))
        for site in linears:
            self._quantize_weight(program, site)
        for attention, top in zip(plan.attentions, tops, strict=True):
            _quantize_probabilities(program, attention, top / LEVELS)

    def _take_linears(self, sites: list[LinearSite], context: Context) -> list[LinearSite]:
        """The sites that get a pair; the others are refused."""
        taken = list[LinearSite]()
        for site in sites:
            why = _GROUPED if self.dense and site.role in ("depthwise", "grouped") else _linear_refusal(site)
            if why is not None:
                context.refuse(site.path, why)
            elif context.take(self.name, site.path):
                taken.append(site)
        return taken

    def _attention_refusal(self, site: AttentionSite, plan: _Plan, context: Context) -> str | None:
        """Why this attention stays in floating point, or None."""
        if not self.attention:
            return "INT8 attention was not asked for (attention=false)"
        if len(site.node.args) > 5 and site.node.args[5] is not None:
            return "it is quantized already"
        if not plan.is_consumed_quantized(site.node):
            return "its output does not go into a quantized linear, and an INT8 attention must have an INT8 output"
        if context.target is None:
            return None
        return context.target.attention_refusal("int8", site.head_dim, max(site.tokens, site.keys), site.value_dim)

    def _scale(self, seen: Statistics) -> float:
        return threshold(seen, self.method, self.percentile) / LEVELS

    def _softmax_thresholds(
        self, program: Program, sites: list[AttentionSite], seen: list[Statistics], context: Context
    ) -> list[float]:
        """By the error of the attention's output with `mse`; else as all other points."""
        assert context.calibration is not None
        if self.method != "mse":
            return [threshold(each, self.method, self.percentile) for each in seen]
        nodes, largest = [site.node for site in sites], [each.largest for each in seen]
        if not nodes:
            return []
        return softmax_thresholds(program, nodes, largest, context.calibration, context.progress)

    def _quantize_value(self, program: Program, point: fx.Node, readers: list[fx.Node] | None, scale: float) -> None:
        """Insert a pair after `point`, for these readers or for all."""
        name = f"{(readers or [point])[0].meta.get('path') or 'model'}.{'input' if readers else 'output'}_scale"
        insert_pair(program, point, readers if readers is not None else list(point.users), name, scale)

    def _quantize_weight(self, program: Program, site: LinearSite) -> None:
        weight: Any = site.node.args[1]
        source = weight_of(site.node)
        values = program.tensor(str(source.target))
        if weight.target is dialect.mask:
            values = values * program.tensor(str(weight.args[1].target)).to(values.dtype)
        scale = weight_scales(values, "minmax" if self.weights == "minmax" else "mse")
        constant = program.constant_node(site.node, f"{source.target}_scale", scale)
        pair = program.insert(site.node, dialect.fake_quantize, weight, constant, 0)
        site.node.update_arg(1, pair)
        rounding = dialect.fake_quantize(values, scale, 0) - values
        _keep_shift(program, site.node, rounding.detach())


def _keep_shift(program: Program, node: fx.Node, rounding: torch.Tensor) -> None:
    """Where filter-shift took z from the input, its bias must make up for z times the rounded weights, not the old ones."""
    shift: Any = node.args[0]
    shift = shift.args[0] if shift.target is dialect.fake_quantize else shift
    z = program.constant(shift.args[1]) if shift.target is aten.sub.Tensor else None
    bias = program.constant(node.args[2]) if len(node.args) > 2 else None
    if z is None or bias is None or z.numel() != rounding[0].numel():
        return
    moved = (rounding.flatten(1).double() @ z.flatten().double()).to(bias.dtype)
    name = f"{node.args[2].target}_rounded"  # type: ignore[union-attr]
    trainable = isinstance(bias, torch.nn.Parameter)
    node.update_arg(2, program.constant_node(node, name, bias.detach() + moved, trainable))


def _linear_refusal(site: LinearSite) -> str | None:
    """Why this product gets no pair, or None."""
    x, weight = site.node.args[:2]
    assert isinstance(x, fx.Node)
    assert isinstance(weight, fx.Node)
    if dialect.fake_quantize in (x.target, weight.target) or weight.target is dialect.dequantize:
        return "it is quantized already"
    plain = weight.args[0] if weight.target is dialect.mask else weight
    return None if plain is weight_of(site.node) else "its weight is computed, not a constant"


class _Plan:
    """Which values get a pair: a node, and those of its readers that read the quantized value (None for all)."""

    def __init__(self, program: Program, linears: list[LinearSite]) -> None:
        self.program, self.linears = program, linears
        self.by_node = {site.node: site for site in linears}
        self.points = dict[fx.Node, list[fx.Node] | None]()
        self.attentions = list[AttentionSite]()
        for site in linears:
            self._read(site.node.args[0], site.node)

    def is_consumed_quantized(self, node: fx.Node) -> bool:
        """Do all readers, behind layout operators, quantize the value?"""
        readers = [(user, node) for user in node.users]
        while readers:
            user, source = readers.pop()
            if user.target in LAYOUT:
                readers += [(each, user) for each in user.users]
            elif user not in self.by_node or user.args[0] is not source:
                return False
        return bool(node.users)

    def add_attention(self, site: AttentionSite) -> None:
        """Quantize q, k and v: at the output of the linear they come from, where one does; else where they are read."""
        self.attentions.append(site)
        for operand in site.node.args[:3]:
            assert isinstance(operand, fx.Node)
            source = behind_layout(operand)
            if source in self.by_node:
                self.points[source] = None
            else:
                self._read(operand, site.node)

    def _read(self, point: Any, reader: fx.Node) -> None:
        """This reader, too, reads the point's quantized value."""
        readers = self.points.setdefault(point, [])
        if readers is not None and reader not in readers:
            readers.append(reader)

    def add_outputs(self) -> None:
        """Quantize what the sparse kernels put out: proj and fc2, before the residual addition."""
        for site in self.linears:
            if site.role in BRANCH_ENDS:
                self.points[site.node] = None


def _quantize_probabilities(program: Program, site: AttentionSite, scale: float) -> None:
    constant = program.constant_node(site.node, f"{site.path}.probability_scale", torch.tensor(scale))
    site.node.args = (*site.node.args[:5], constant)
