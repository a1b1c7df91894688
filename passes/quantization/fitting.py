"""What `reconstruct` learns in one segment: weights on their grids, and biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from vitgraph.analysis.segments import Overrides, Segment
from vitgraph.ir import dialect
from vitgraph.ir.call_arguments import argument, set_argument
from vitgraph.ir.calls import AttentionCall, MaskCall, QuantizeCall, WeightedCall
from vitgraph.ir.dialect import UMAX
from vitgraph.ir.formats import Format, number_format, spread
from vitgraph.ir.operator_classes import LINEARS, ROUNDS
from vitgraph.ir.program import Program
from vitgraph.passes.sparsity.existing_patterns import existing_pattern

WEIGHT_RATE = 0.03
"""Of a weight's step, each iteration."""
BIAS_RATE = 0.0015
"""Of the range of the row's weights."""
ROUNDING_RATE = 0.1
_STRETCH, _OFFSET = 1.2, -0.1
"""AdaRound's ζ - γ and γ."""
_PENALTY = 1.0


def in_floating_point(program: Program) -> Overrides:
    """The overrides that run the program as if it had no pairs."""
    overrides = dict[fx.Node, Callable[..., Any]]()
    for node in program.calls(*ROUNDS):
        overrides[node] = _as_it_is
    for node in program.calls(dialect.attention):
        overrides[node] = _without_probability_scale
    return overrides


def without_pairs(program: Program) -> Program:
    """A copy that has none."""
    clean = program.copy()
    for node in clean.calls(*ROUNDS):
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
    for node in clean.calls(dialect.attention):
        AttentionCall(node).leave_probabilities()
    clean.clean()
    return clean


def _as_it_is(x: Tensor, *_: Any) -> Tensor:
    return x


def _without_probability_scale(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, *_: Any) -> Any:
    return _attention(q, k, v, bias, scale)


def as_quantized(segment: Segment) -> dict[fx.Node, Callable[..., Any]]:
    """Overrides that run quantizers with plain operators, which `torch.vmap` can run and which pass gradients."""
    plain: dict[Any, Callable[..., Any]] = {
        dialect.fake_quantize: _fake_quantize,
        dialect.log2_quantize: _log2_quantize,
        dialect.attention: _attention,
    }
    return {node: plain[node.target] for node in segment.nodes if node.target in plain}


def on_grid(steps: Tensor, grid: Format) -> Tensor:
    """The nearest codes, with the gradient of what was not rounded (straight-through), none where it was clipped."""
    kept = steps.clamp(grid.low, grid.high)
    return (grid.nearest(kept) - kept).detach() + kept


def rectified(v: Tensor) -> Tensor:
    """AdaRound's h(v), from 0 (down) to 1 (up), which it reaches."""
    return (torch.sigmoid(v) * _STRETCH + _OFFSET).clamp(0, 1)


@dataclass(frozen=True)
class Learned:
    """New values by the kind and the name of the node that reads them: `weight:NODE`, `bias:NODE`."""

    tensors: Mapping[str, Tensor]

    def apply(self, program: Program, segment: Segment) -> None:
        """Let the nodes read the new values."""
        for node in segment.nodes:
            for kind in ("weight", "bias"):
                values = self.tensors.get(f"{kind}:{node.name}")
                if values is None:
                    continue
                reader, name = (node, kind) if kind == "bias" else _reader_of_weight(node)
                fitted = f"{argument(reader, name).target}_fitted"
                set_argument(reader, name, program.constant_node(reader, fitted, values, trainable=True))


def _reader_of_weight(pair: fx.Node) -> tuple[fx.Node, str]:
    """The call that reads the weight that a pair rounds, and the name of the argument that it is: a mask's, or its own."""
    mask = MaskCall.of(QuantizeCall(pair).data)
    return (pair, "x") if mask is None else (mask.node, "weight")


class Fit:
    """The parameters of one segment: `groups` for an optimizer, `overrides` to run the segment with them."""

    def __init__(
        self, program: Program, segment: Segment, weights: Literal["tune", "round", "keep"], rate: float
    ) -> None:
        self.program, self.weights, self.rate = program, weights, rate
        self.groups = list[dict[str, Any]]()
        self.overrides = as_quantized(segment)
        self.hard = dict[str, Callable[[], Tensor]]()
        self.rounding = list[Tensor]()
        for node in segment.nodes:
            if node.target is dialect.fake_quantize:
                self._pair(node)
            elif node.target in LINEARS:
                self._bias(node)

    def _pair(self, node: fx.Node) -> None:
        """A weight's pair gets a parameter."""
        pair = QuantizeCall(node)
        masked = MaskCall.of(pair.data)
        mask = None if masked is None else self.program.constant(masked.keep)
        values = self.program.constant(pair.data if masked is None else masked.weight)
        scale = self.program.constant(pair.scale)
        if values is None or scale is None or self.weights == "keep":
            return
        if mask is None and existing_pattern(values) is not None:
            mask = values != 0  # nobody put a mask on it, and a pattern is worth nothing once one zero is filled
        grid, step = pair.format, spread(scale, pair.axis, values.shape)
        steps = values.detach() / step if mask is None else values.detach() * mask / step
        keep = torch.ones(()) if mask is None else mask.to(steps.dtype)
        soft, hard = self._rounding(steps, grid) if self.weights == "round" else self._tuning(steps, grid)
        self.overrides[node] = lambda *_: soft() * keep * step
        self.hard[f"weight:{node.name}"] = lambda: hard() * keep * step

    def _tuning(self, steps: Tensor, grid: Format) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        free = nn.Parameter(steps.clone())
        self.groups.append({"params": [free], "lr": WEIGHT_RATE * self.rate})
        return lambda: on_grid(free, grid), lambda: grid.nearest(free.detach())

    def _rounding(self, steps: Tensor, grid: Format) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        floor, low, high = steps.floor(), grid.low, grid.high
        share = ((steps - floor).clamp(1e-4, 1 - 1e-4) - _OFFSET) / _STRETCH
        v = nn.Parameter(torch.logit(share))
        self.groups.append({"params": [v], "lr": ROUNDING_RATE * self.rate})
        self.rounding.append(v)
        up: Callable[[], Tensor] = lambda: (rectified(v.detach()) >= 0.5).to(floor.dtype)
        return lambda: (floor + rectified(v)).clamp(low, high), lambda: (floor + up()).clamp(low, high)

    def _bias(self, node: fx.Node) -> None:
        """A bias moves in units of its row's range of weights."""
        call = WeightedCall(node)
        target, pair = call.bias, QuantizeCall.of(call.weight)
        if target is None or pair is None or len(target.users) > 1:
            return
        values, scale = self.program.constant(target), self.program.constant(pair.scale)
        if values is None or scale is None:
            return
        unit = scale.reshape(-1, 1 if scale.dim() < 2 else scale.shape[1]).amax(1) * pair.format.high
        moved = nn.Parameter(torch.zeros_like(values))
        self.groups.append({"params": [moved], "lr": BIAS_RATE * self.rate})
        self.overrides[target] = lambda: values.detach() + moved * unit
        self.hard[f"bias:{node.name}"] = lambda: values.detach() + moved.detach() * unit

    def penalty(self, progress: float) -> Tensor:
        """AdaRound's Σ 1 - |2h - 1|^β, the mean over weights: none for the first fifth, then β falls from 20 to 2."""
        if not self.rounding or progress < 0.2:
            return torch.zeros(())
        beta = 20 - 18 * (progress - 0.2) / 0.8
        undecided = [(1 - (2 * rectified(v) - 1).abs().pow(beta)).mean() for v in self.rounding]
        return _PENALTY * torch.stack(undecided).mean()

    def harden(self) -> Learned:
        """The values to keep: every weight on its grid."""
        return Learned({name: value().contiguous() for name, value in self.hard.items()})


def _fake_quantize(
    x: Tensor, scale: Tensor, axis: int | None = None, format: str = "int8", shift: Tensor | None = None
) -> Tensor:
    """The pair with plain operators, which vmap can run."""
    step, centre = spread(scale, axis, x.shape), 0.0 if shift is None else shift
    return on_grid((x - centre) / step, number_format(format)) * step + centre


def _log2_quantize(
    x: Tensor, scale: Tensor | None = None, rule: str = "nearest", low: int = -6, high: int = 9
) -> Tensor:
    codes = x.detach() if scale is None else (x.detach() / scale).round().clamp(1, UMAX) * scale
    steps = (codes.unsqueeze(-1) >= dialect.log2_thresholds(rule, low, high)).sum(-1)
    inside = (steps > 0) & (steps < high - low)
    kept = x * inside
    return (torch.exp2((steps + low).to(x.dtype)) - kept).detach() + kept


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    scale: float,
    probability_scale: Tensor | None = None,
    probability_format: str = "int8",
) -> Tensor:
    weights = dialect.probabilities(q, k, bias, scale)
    if probability_scale is not None:
        weights = _fake_quantize(weights, probability_scale, None, probability_format)
    return torch.matmul(weights, v)
