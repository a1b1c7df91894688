"""Scales from what calibration images showed, and from weights: symmetric, one step is the threshold over the largest code.

In INT8 that is `threshold / 127`. A threshold is where values are clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.ir.formats import FORMATS, Format

Method = Literal["minmax", "percentile", "entropy", "mse", "hessian"]
WeightMethod = Literal["minmax", "mse", "hessian"]
METHODS: tuple[str, ...] = get_args(Method)

BINS = 4096
INT8 = FORMATS["int8"]
LEVELS = 127
SMALLEST = 1e-8
"""The least threshold: a point that is always zero still needs a positive scale, which must survive FP16."""


@dataclass
class Statistics:
    """What was seen at one point of a graph."""

    largest: float
    counts: Tensor
    """`[BINS]`, float64: how many magnitudes fell in each of `BINS` equal parts of `[0, largest]`, or what those weigh."""

    def centers(self) -> Tensor:
        """The middle of each bin, `[BINS]`."""
        return (torch.arange(BINS, dtype=torch.float64) + 0.5) * (self.largest / BINS)


def threshold(statistics: Statistics, method: Method, percentile: float = 99.99, grid: Format = INT8) -> float:
    """The magnitude that becomes the largest code (127); what is larger is clipped.

    `percentile` is in percent, used by that method only; `hessian` is `mse` on magnitudes that were weighted. Raises `InputError` for entropy where codes are no equal steps.
    """
    if method == "minmax":
        return statistics.largest
    if method == "percentile":
        share = statistics.counts.cumsum(0) / statistics.counts.sum()
        index = int(torch.searchsorted(share, torch.tensor(percentile / 100, dtype=share.dtype)))
        return statistics.largest * (min(index, BINS - 1) + 1) / BINS
    if method == "entropy" and grid.dtype.is_floating_point:
        raise InputError(f"method=entropy counts equal steps, which {grid.name} does not have; take mse or minmax")
    return _search(statistics, grid, _entropy if method == "entropy" else _squared_error)


def _search(statistics: Statistics, grid: Format, cost: Callable[[Statistics, float, Format], float]) -> float:
    """The cheapest of 128 thresholds, geometrically spaced from 1/128 of the range to the whole of it."""
    candidates = statistics.largest * torch.logspace(-7, 0, 128, base=2.0, dtype=torch.float64)
    costs = [cost(statistics, float(candidate), grid) for candidate in candidates]
    return float(candidates[min(range(len(costs)), key=costs.__getitem__)])


def _squared_error(statistics: Statistics, amax: float, grid: Format) -> float:
    """Expected squared error of rounding and clipping at `amax`."""
    centers = statistics.centers()
    step = amax / grid.high
    rounded = grid.nearest(centers / step) * step
    return float((statistics.counts * (centers - rounded).square()).sum())


def _entropy(statistics: Statistics, amax: float, grid: Format) -> float:
    """Kullback–Leibler divergence from the clipped distribution to its 127-level version (S. Migacz, GTC 2017)."""
    levels = int(grid.high)
    kept = max(levels, round(amax / statistics.largest * BINS))
    reference = statistics.counts[:kept].clone()
    shape = statistics.counts[:kept]
    reference[-1] += statistics.counts[kept:].sum()
    level = (torch.arange(kept) * levels) // kept
    total = torch.zeros(levels, dtype=torch.float64).index_add(0, level, shape)
    filled = torch.zeros(levels, dtype=torch.float64).index_add(0, level, (shape > 0).double())
    coarse = torch.where(shape > 0, (total / filled.clamp(min=1))[level], 0.0)
    p, q = reference / reference.sum().clamp(min=1), coarse / coarse.sum().clamp(min=1)
    inside = p > 0
    return float((p[inside] * (p[inside] / q[inside].clamp(min=1e-12)).log()).sum())


def weight_scales(
    weight: Tensor,
    method: WeightMethod = "minmax",
    grid: Format = INT8,
    group: int | None = None,
    *,
    whole: bool = False,
    importance: Tensor | None = None,
) -> Tensor:
    """Positive scales for `weight` `[out, …]`: `[out]`, one for each output channel, or `[]` with `whole`.

    With `group`, for `[out, in]`: `[out, in / group]`, one for each `group` weights along the input. `hessian` is `mse`
    with the error of each weight times `importance` `[in]`, the mean square of what it multiplies: the error of the
    linear's output, inputs taken as uncorrelated.
    """
    rows = weight.detach().float().flatten(1)
    felt = torch.ones(rows.shape[1]) if importance is None else importance.float()
    if group is not None:
        felt = felt.reshape(-1, group)
        rows = rows.reshape(len(rows), -1, group)
    over = tuple(range(rows.dim())) if whole else (-1,)
    amax = rows.abs().amax(over, keepdim=True).clamp(min=SMALLEST)
    if method == "minmax":
        return (amax / grid.high).reshape(amax.shape[:-1] if not whole else ())
    best, least = amax.clone(), torch.full_like(amax, torch.inf)
    for ratio in torch.linspace(0.6, 1.0, 21):
        step = amax * ratio / grid.high
        error = ((grid.nearest(rows / step) * step - rows).square() * felt).sum(over, keepdim=True)
        better = error < least
        best, least = torch.where(better, amax * ratio, best), torch.where(better, error, least)
    return (best / grid.high).reshape(amax.shape[:-1] if not whole else ())
