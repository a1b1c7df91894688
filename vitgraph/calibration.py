"""Scales for INT8 activations from calibration images: streaming, in bounded memory, the same for every batch size.

Two runs over the images: the first finds each point's largest magnitude, the second counts magnitudes into a histogram
of that range. A histogram is the same in whatever portions the images come (only a static batch over 1 fills its last one). The scale that a method picks
from it is symmetric: one step is `threshold / 127`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx

from vitgraph.contract import Images
from vitgraph.dialect import probabilities
from vitgraph.errors import InputError
from vitgraph.program import Program

Method = Literal["minmax", "percentile", "entropy", "mse"]
METHODS: tuple[str, ...] = get_args(Method)

BINS = 4096
LEVELS = 127
_SMALLEST = 1e-8
"""The least threshold: a point that is always zero still needs a positive scale, which must survive FP16."""


@dataclass
class Statistics:
    """What was seen at one point of a graph."""

    largest: float
    counts: Tensor
    """`[BINS]`, float64: how many magnitudes fell in each of `BINS` equal parts of `[0, largest]`."""

    def centers(self) -> Tensor:
        """The middle of each bin, `[BINS]`."""
        return (torch.arange(BINS, dtype=torch.float64) + 0.5) * (self.largest / BINS)


@dataclass(frozen=True)
class Point:
    """A value to watch: what a node gives, or the softmax's output inside an attention."""

    node: fx.Node
    inside: bool = False


def observe(
    program: Program,
    points: Sequence[Point],
    images: Images,
    *,
    histograms: bool = True,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Statistics]:
    """Statistics of the values at `points`, over all images.

    Without `histograms`, one run is enough and the counts stay empty. Raises `InputError` if there is no image.
    """
    largest = [0.0] * len(points)
    for values in _runs(program, points, images, progress, "calibration: ranges"):
        largest = [max(old, float(value.abs().max())) for old, value in zip(largest, values, strict=True)]
    found = [Statistics(max(top, _SMALLEST), torch.zeros(BINS, dtype=torch.float64)) for top in largest]
    if histograms:
        for values in _runs(program, points, images, progress, "calibration: histograms"):
            for statistics, value in zip(found, values, strict=True):
                magnitudes = value.detach().float().abs().flatten()
                statistics.counts += torch.histc(magnitudes, BINS, 0.0, statistics.largest).double()
    return found


def observe_channels(
    program: Program,
    nodes: Sequence[fx.Node],
    images: Images,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Tensor]:
    """The largest magnitude of each channel, `[channels]` float32: of the last dimension of each node's value."""
    ranges = observe_ranges(program, nodes, images, progress, axis=-1)
    return [each.largest for each in ranges]


@dataclass(frozen=True)
class ChannelRanges:
    """What was seen of the channels of one value; each `[channels]`, float32."""

    least: Tensor
    most: Tensor
    typical: Tensor
    """The mean, over the images, of the largest magnitude in each: images not seen exceed it as those seen do."""

    @property
    def largest(self) -> Tensor:
        """The largest magnitude."""
        return torch.maximum(self.least.abs(), self.most.abs())


def observe_ranges(
    program: Program,
    nodes: Sequence[fx.Node],
    images: Images,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    axis: int = 1,
) -> list[ChannelRanges]:
    """The ranges of each node's channels, which lie along dimension `axis`; dimension 0 is the images."""
    seen: list[list[Tensor]] = [[] for _ in nodes]
    for values in _runs(program, [Point(node) for node in nodes], images, progress, "calibration: channels"):
        for rows, value in zip(seen, values, strict=True):
            rows.append(_range_rows(value.detach().float(), axis))
    return [_merge_ranges(torch.cat(rows)) for rows in seen]


def _range_rows(value: Tensor, axis: int) -> Tensor:
    """Least and largest value of each channel in each image, `[images, 2, channels]`."""
    other = [dim for dim in range(1, value.dim()) if dim != axis % value.dim()]
    least, most = (value.amin(other), value.amax(other)) if other else (value, value)
    return torch.stack([least, most], 1)


def _merge_ranges(rows: Tensor) -> ChannelRanges:
    return ChannelRanges(rows[:, 0].amin(0), rows[:, 1].amax(0), rows.abs().amax(1).double().mean(0).float())


class _Tap(fx.Interpreter):
    """Runs a graph and keeps what stands at some points."""

    def __init__(self, program: Program, points: Sequence[Point]) -> None:
        super().__init__(program.module)
        self.outputs = {point.node: point for point in points if not point.inside}
        self.softmaxes = {point.node: point for point in points if point.inside}
        self.kept = dict[Point, Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.outputs:
            self.kept[self.outputs[n]] = value
        if n in self.softmaxes:
            q, k, _, bias, scale = self.fetch_args_kwargs_from_env(n)[0][:5]
            self.kept[self.softmaxes[n]] = probabilities(q, k, bias, scale)
        return value


def _runs(
    program: Program,
    points: Sequence[Point],
    images: Images,
    progress: Callable[[str, int, int], None],
    what: str,
) -> Iterator[list[Tensor]]:
    """The values at the points, batch by batch."""
    if len(images) == 0:
        raise InputError("calibration needs at least one image; name a folder with --calibration-data, or `random`")
    batch = program.input_types()[0].shape[0]
    size = batch if isinstance(batch, int) else 8
    done = 0
    tap = _Tap(program, points)
    for pixels, _ in images.batches(size):
        count = pixels.shape[0]
        filled = _fill(pixels, size) if isinstance(batch, int) and count < size else pixels
        with torch.no_grad():
            tap.run(filled)
        done += count
        progress(what, done, len(images))
        yield [tap.kept[point] for point in points]
        tap.kept.clear()


def _fill(pixels: Tensor, size: int) -> Tensor:
    """A last, smaller batch filled up with its own images again: a static graph takes nothing else."""
    return pixels[torch.arange(size) % pixels.shape[0]]


def threshold(statistics: Statistics, method: Method, percentile: float = 99.99) -> float:
    """The magnitude that becomes 127; what is larger is clipped. `percentile` is in percent, used by that method only."""
    if method == "minmax":
        return statistics.largest
    if method == "percentile":
        share = statistics.counts.cumsum(0) / statistics.counts.sum()
        index = int(torch.searchsorted(share, torch.tensor(percentile / 100, dtype=share.dtype)))
        return statistics.largest * (min(index, BINS - 1) + 1) / BINS
    return _search(statistics, _entropy if method == "entropy" else _squared_error)


def _search(statistics: Statistics, cost: Callable[[Statistics, float], float]) -> float:
    """The cheapest of 128 thresholds, geometrically spaced from 1/128 of the range to the whole of it."""
    candidates = statistics.largest * torch.logspace(-7, 0, 128, base=2.0, dtype=torch.float64)
    costs = [cost(statistics, float(candidate)) for candidate in candidates]
    return float(candidates[min(range(len(costs)), key=costs.__getitem__)])


def _squared_error(statistics: Statistics, top: float) -> float:
    """Expected squared error of rounding and clipping at `top`."""
    centers = statistics.centers()
    step = top / LEVELS
    rounded = (centers / step).round().clamp(max=LEVELS) * step
    return float((statistics.counts * (centers - rounded).square()).sum())


def _entropy(statistics: Statistics, top: float) -> float:
    """Kullback–Leibler divergence from the clipped distribution to its 127-level version (S. Migacz, GTC 2017)."""
    kept = max(LEVELS, round(top / statistics.largest * BINS))
    reference = statistics.counts[:kept].clone()
    shape = statistics.counts[:kept]
    reference[-1] += statistics.counts[kept:].sum()
    level = (torch.arange(kept) * LEVELS) // kept
    total = torch.zeros(LEVELS, dtype=torch.float64).index_add(0, level, shape)
    filled = torch.zeros(LEVELS, dtype=torch.float64).index_add(0, level, (shape > 0).double())
    coarse = torch.where(shape > 0, (total / filled.clamp(min=1))[level], 0.0)
    p, q = reference / reference.sum().clamp(min=1), coarse / coarse.sum().clamp(min=1)
    inside = p > 0
    return float((p[inside] * (p[inside] / q[inside].clamp(min=1e-12)).log()).sum())


def weight_scales(weight: Tensor, method: Literal["minmax", "mse"] = "minmax") -> Tensor:
    """One scale for each output channel of `weight` `[out, …]`: `[out]`, positive."""
    rows = weight.detach().float().flatten(1)
    top = rows.abs().amax(1).clamp(min=_SMALLEST)
    if method == "minmax":
        return top / LEVELS
    best, least = top.clone(), torch.full_like(top, torch.inf)
    for ratio in torch.linspace(0.6, 1.0, 21):
        step = (top * ratio / LEVELS).unsqueeze(1)
        error = ((rows / step).round().clamp(-LEVELS - 1, LEVELS) * step - rows).square().sum(1)
        better = error < least
        best, least = torch.where(better, top * ratio, best), torch.where(better, error, least)
    return best / LEVELS
