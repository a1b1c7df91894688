"""The scale of a softmax's output, chosen by what the attention makes of the rounded probabilities.

Squared error of the probabilities themselves asks for too large a scale: a few near one weigh more than the hundreds of
small ones whose sum counts as much. What matters is the attention's output, so the threshold with the least
||(rounded p - p) v||² over calibration images is taken (a layer-wise reconstruction error, as in PTQ4ViT, Yuan et al.,
arXiv 2111.12293, without the gradients: they did no better here).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from vitgraph.images.calibration_data import Images
from vitgraph.ir.calls import AttentionCall
from vitgraph.ir.dialect import probabilities
from vitgraph.ir.formats import Format
from vitgraph.ir.program import Program
from vitgraph.progress import Progress, silent
from vitgraph.quantizing.calibration import Observer, runs
from vitgraph.quantizing.scales import INT8

IMAGES = 32
"""How many images are enough: each has hundreds of rows."""
_THRESHOLDS = torch.logspace(0, -4, 13, base=2.0, dtype=torch.float64)
"""Shares of the largest probability that are tried, the largest first."""


def softmax_thresholds(
    program: Program,
    attentions: Sequence[fx.Node],
    largest: Sequence[float],
    images: Images,
    progress: Progress = silent,
    grid: Format = INT8,
) -> list[float]:
    """For each attention the probability that becomes the largest code; `largest` is the largest one that was seen of each."""
    calls = [AttentionCall(node) for node in attentions]
    operands = [[Observer(each) for each in (*call.operands, call.bias) if each is not None] for call in calls]
    flat = list(dict.fromkeys(point for points in operands for point in points))
    errors = torch.zeros(len(attentions), len(_THRESHOLDS), dtype=torch.float64)
    done = 0
    for values in runs(program, flat, images, progress, "calibration: softmax"):
        known = dict(zip(flat, values, strict=True))
        for row, (call, points) in enumerate(zip(calls, operands, strict=True)):
            q, k, v, *bias = (known[point] for point in points)
            p = probabilities(q, k, bias[0] if bias else None, call.scale)
            errors[row] += _errors(p, v, largest[row], grid)
        done += values[0].shape[0]
        if done >= IMAGES:
            break
    best = errors.argmin(1)
    return [amax * float(_THRESHOLDS[index]) for amax, index in zip(largest, best, strict=True)]


def _errors(p: Tensor, v: Tensor, largest: float, grid: Format) -> Tensor:
    """Squared error of the attention's output for each threshold, `[thresholds]`; p is `[…, tokens, keys]`."""
    found = list[float]()
    for share in _THRESHOLDS:
        step = largest * float(share) / grid.high
        rounded = grid.nearest(p / step).mul_(step).sub_(p)
        found.append(float(torch.matmul(rounded, v).square().sum()))
    return torch.tensor(found, dtype=torch.float64)
