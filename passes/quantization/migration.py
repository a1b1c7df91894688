"""The search for what should move from the inputs into a weight: how much of their range, and whether their middle too.

For each candidate the linear is run quantized on sampled rows of its input, and its error weighted with the squared
gradient of the output (see vitgraph/quantizing/fisher.py). Outlier channels make the choice matter: on a real ViT-Tiny one fc2
wants 0.65, where half the range stays with the inputs, and most layer norms' readers want 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.images.calibration_data import Images
from vitgraph.ir.program import Program
from vitgraph.passes.affine import channel_axis
from vitgraph.progress import Progress, silent
from vitgraph.quantizing.calibration import ChannelStatistics
from vitgraph.quantizing.fisher import gradients
from vitgraph.quantizing.scales import LEVELS, weight_scales

ALPHAS = (0.5, 0.65, 0.8, 0.9, 1.0)
_CLIPS = (1.0, 0.7, 0.5, 0.35)
"""Shares of the largest input at which the activation may be clipped: what `quantize` would choose is near one of them."""
IMAGES = 16
ROWS = 1024
"""About so many rows (tokens) are kept of each linear, from so many images."""
_ROOM = 1 << 25
"""Numbers that all rows may hold together, 128 MiB: of a model as wide as DeiT-Small fewer rows are kept."""
_LOUD = 2
"""How many of them are a batch's largest: outliers are rare, and decide."""
SPARE = 0.3
"""Of images not seen: on a ViT-Tiny calibrated with 64, what fc2's inputs cost falls to a third (KL 0.010 to 0.004, softmax in
floating point), as with 256 images."""
_SMALLEST = 1e-5
"""The least channel maximum that counts: a dead channel has nothing to move."""


@dataclass(frozen=True)
class Rows:
    """A sample of what a linear reads, `[rows, K]`, and of the gradients at its output, `[rows, N]`."""

    inputs: Tensor
    gradients: Tensor


def factors(largest: Tensor, weights: Sequence[Tensor], alpha: float) -> Tensor:
    """s = max|x|^alpha / max|w|^(1 - alpha), `[K]` (SmoothQuant, eq. 4), over all weights `[N, K]` that read x.

    alpha = 0 leaves the inputs as they are.
    """
    amaxes = torch.stack([weight.float().abs().amax(0) for weight in weights]).amax(0)
    s = largest.clamp(min=_SMALLEST) ** alpha / amaxes.clamp(min=_SMALLEST) ** (1 - alpha)
    return torch.ones_like(s) if alpha == 0 else torch.where(largest < _SMALLEST, 1.0, s)


@dataclass(frozen=True)
class ChannelRange:
    """What moves out of the channels of an input: their middle `shift`, `[K]`, so that they lie within ±`largest`."""

    shift: Tensor
    largest: Tensor

    @staticmethod
    def of(channels: ChannelStatistics, centred: bool, spare: bool = False) -> ChannelRange:
        """Around the middle of what was seen, or around zero.

        With `spare`, more than was seen: what an activation function outputs has a long tail to one side, and what other
        images put there would be clipped. Each channel gets `SPARE` of the way from its largest value in an average image to
        the largest of all, and none reaches less than the median one: its rounding is of little weight.
        """
        least, most = channels.least, channels.most
        if spare:
            beyond = SPARE * (channels.largest - channels.typical)
            least, most = (
                torch.where(most < -least, least - beyond, least),
                torch.where(most < -least, most, most + beyond),
            )
        span = (most - least) / 2 if centred else torch.maximum(most, -least)
        wider = span.clamp(min=float(span.median())) if spare else span
        if not centred:
            return ChannelRange(torch.zeros_like(wider), wider)
        up = most.amax() >= -least.amin() if spare else most >= -least
        return ChannelRange(torch.where(up, least + wider, most - wider), wider)


def best_migration(
    ranges: Sequence[ChannelRange],
    alphas: Sequence[float],
    weights: Sequence[Tensor],
    samples: Sequence[Rows],
    kept: bool,
) -> tuple[ChannelRange, float]:
    """The pair whose quantized products have the least weighted error, summed over the linears that share x.

    With `kept` the shift stays in the graph, where the bias can make up for the rounding of the weights that it meets.
    """
    pairs = [(span, alpha) for span in ranges for alpha in alphas]
    if len(pairs) == 1:
        return pairs[0]
    costs = [_cost(factors(span.largest, weights, alpha), span, weights, samples, kept) for span, alpha in pairs]
    return pairs[costs.index(min(costs))]


def _cost(s: Tensor, span: ChannelRange, weights: Sequence[Tensor], samples: Sequence[Rows], kept: bool) -> float:
    amax = (span.largest / s).amax().clamp(min=_SMALLEST)
    rounded = [_rounded_weight(weight * s) for weight in weights]
    regained = span.shift / s if kept else torch.zeros_like(s)
    found = list[float]()
    for clip in _CLIPS if not span.shift.any() else _CLIPS[:1]:  # shifted values lie at both ends of the range
        step = amax * clip / LEVELS
        total = 0.0
        for rows, weight, integer in zip(samples, weights, rounded, strict=True):
            even = (rows.inputs - span.shift) / s
            taken = (even / step).round().clamp(-LEVELS - 1, LEVELS) * step + regained
            error = taken @ integer.t() - (even + regained) @ (weight * s).t()
            total += float((error * rows.gradients).square().sum())
        found.append(total)
    return min(found)


def _rounded_weight(weight: Tensor) -> Tensor:
    step = weight_scales(weight).unsqueeze(1)
    return (weight / step).round() * step


def sample_rows(
    program: Program,
    linears: Sequence[fx.Node],
    images: Images,
    progress: Progress = silent,
) -> dict[fx.Node, Rows]:
    """For each linear, or convolution at each position, some rows of its input, the largest among them, from the first `IMAGES` images."""
    nodes: list[Any] = [*(linear.args[0] for linear in linears), *linears]
    batch = program.input_types()[0].shape[0]
    axes = [channel_axis(linear) for linear in linears]
    rows = min(ROWS, _ROOM // sum(node.meta["type"].shape[axis] for node, axis in zip(nodes, 2 * axes, strict=True)))
    share = -(-rows * (batch if isinstance(batch, int) else 8) // min(IMAGES, len(images)))  # rows a batch
    parts: dict[fx.Node, list[Rows]] = {linear: [] for linear in linears}
    generator = torch.Generator().manual_seed(0)
    for values, found in gradients(program, nodes, images, IMAGES, progress):
        for linear, axis, x, g in zip(linears, axes, values, found[len(linears) :], strict=False):
            inputs, weights = (each.movedim(axis, -1).flatten(0, -2) for each in (x, g))
            index, weight = _choose(inputs, weights, share, generator)
            parts[linear].append(Rows(inputs[index], weights[index] * weight.sqrt().unsqueeze(1)))
    return {linear: _together(parts.pop(linear)) for linear in linears}


def _together(parts: Sequence[Rows]) -> Rows:
    return Rows(torch.cat([part.inputs for part in parts]), torch.cat([part.gradients for part in parts]))


def _choose(inputs: Tensor, gradients: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """About `count` rows and how many each stands for: the largest and those the output feels most stand for themselves,
    others for all that were not drawn."""
    loud = inputs.abs().amax(1).topk(min(_LOUD, len(inputs))).indices
    felt = gradients.square().sum(1).topk(min(count // 2, len(inputs))).indices
    known = torch.zeros(len(inputs), dtype=torch.bool).index_fill(0, torch.cat([loud, felt]), True)
    sure, rest = known.nonzero().flatten(), (~known).nonzero().flatten()
    drawn = rest[torch.randperm(len(rest), generator=generator)[: count - count // 2]]
    each = torch.full((len(drawn),), len(rest) / max(len(drawn), 1))
    return torch.cat([sure, drawn]), torch.cat([torch.ones(len(sure)), each])
