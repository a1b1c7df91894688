"""How much of the inputs' range should move into a weight: the share that costs the quantized product least.

For each candidate alpha the linear is run quantized on sampled rows of its input, and its error weighted with the squared
gradient of the output (see vitgraph/fisher.py). Outlier channels make the choice matter: on a real ViT-Tiny one fc2
wants 0.65, where half the range stays with the inputs, and most layer norms' readers want 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.calibration import LEVELS, weight_scales
from vitgraph.contract import Images
from vitgraph.fisher import gradients
from vitgraph.program import Program

ALPHAS = (0.5, 0.65, 0.8, 0.9, 1.0)
_CLIPS = (1.0, 0.7, 0.5, 0.35)
"""Shares of the largest input at which the activation may be clipped: what `quantize` would choose is near one of them."""
IMAGES = 16
ROWS = 1024
"""About so many rows (tokens) are kept of each linear, from so many images."""
_LOUD = 2
"""How many of them are a batch's largest: outliers are rare, and decide."""
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
    tops = torch.stack([weight.float().abs().amax(0) for weight in weights]).amax(0)
    s = largest.clamp(min=_SMALLEST) ** alpha / tops.clamp(min=_SMALLEST) ** (1 - alpha)
    return torch.ones_like(s) if alpha == 0 else torch.where(largest < _SMALLEST, 1.0, s)


def best_alpha(largest: Tensor, shift: Tensor, weights: Sequence[Tensor], samples: Sequence[Rows]) -> float:
    """The candidate whose quantized products have the least weighted error, summed over the linears that share x."""
    costs = [_cost(factors(largest, weights, alpha), largest, shift, weights, samples) for alpha in ALPHAS]
    return ALPHAS[costs.index(min(costs))]


def _cost(s: Tensor, largest: Tensor, shift: Tensor, weights: Sequence[Tensor], samples: Sequence[Rows]) -> float:
    top = (largest / s).amax().clamp(min=_SMALLEST)
    rounded = [_rounded_weight(weight * s) for weight in weights]
    found = list[float]()
    for clip in _CLIPS:
        step = top * clip / LEVELS
        total = 0.0
        for rows, weight, integer in zip(samples, weights, rounded, strict=True):
            even = (rows.inputs - shift) / s
            error = (even / step).round().clamp(-LEVELS - 1, LEVELS) * step @ integer.t() - even @ (weight * s).t()
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
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[fx.Node, Rows]:
    """For each linear some rows of its input, the largest among them, from the first `IMAGES` images."""
    nodes: list[Any] = [*(linear.args[0] for linear in linears), *linears]
    batch = program.input_types()[0].shape[0]
    share = -(-ROWS * (batch if isinstance(batch, int) else 8) // min(IMAGES, len(images)))  # rows a batch
    parts: dict[fx.Node, list[Rows]] = {linear: [] for linear in linears}
    generator = torch.Generator().manual_seed(0)
    for values, found in gradients(program, nodes, images, IMAGES, progress):
        for linear, x, g in zip(linears, values, found[len(linears) :], strict=False):
            inputs, weights = x.flatten(0, -2), g.flatten(0, -2)
            some = torch.randperm(len(inputs), generator=generator)[:share]
            loud = inputs.abs().amax(1).topk(min(_LOUD, len(inputs))).indices
            index = torch.cat([some, loud])
            parts[linear].append(Rows(inputs[index], weights[index]))
    return {
        linear: Rows(torch.cat([p.inputs for p in found]), torch.cat([p.gradients for p in found]))
        for linear, found in parts.items()
    }
