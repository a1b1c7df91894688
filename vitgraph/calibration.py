"""Scales for INT8 activations from calibration images: streaming, in bounded memory, the same for every batch size.

Two runs over the images: the first finds each point's largest magnitude, the second counts magnitudes into a histogram
of that range. A histogram is the same in whatever portions the images come (only a static batch over 1 fills its last one). The scale that a method picks
from it is symmetric: one step is `threshold / 127` in INT8, and the threshold over the largest code in any format.
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
from vitgraph.formats import FORMATS, Format
from vitgraph.program import Program

Method = Literal["minmax", "percentile", "entropy", "mse"]
METHODS: tuple[str, ...] = get_args(Method)

BINS = 4096
INT8 = FORMATS["int8"]
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
    for values in runs(program, points, images, progress, "calibration: ranges"):
        largest = [max(old, float(value.abs().max())) for old, value in zip(largest, values, strict=True)]
    found = [Statistics(max(top, _SMALLEST), torch.zeros(BINS, dtype=torch.float64)) for top in largest]
    if histograms:
        for values in runs(program, points, images, progress, "calibration: histograms"):
            for statistics, value in zip(found, values, strict=True):
                magnitudes = value.detach().float().abs().flatten()
                statistics.counts += torch.histc(magnitudes, BINS, 0.0, statistics.largest).double()
    return found


@dataclass
class Channels:
    """What was seen of a value, channel by channel: vectors `[channels]`, float32."""

    least: Tensor
    most: Tensor
    mean: Tensor
    typical: Tensor
    """The mean, over the images, of the largest magnitude in each: images not seen exceed it as those seen do."""

    @property
    def largest(self) -> Tensor:
        """The largest magnitude of each channel."""
        return torch.maximum(self.least.abs(), self.most.abs())


def observe_channels(
    program: Program,
    nodes: Sequence[fx.Node],
    images: Images,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    axis: int = -1,
) -> list[Channels]:
    """Range and mean of each channel of each node's value, over all images.

    The channels lie along dimension `axis`, the images (or windows of them) along dimension 0.
    """
    seen = [_ChannelSums() for _ in nodes]
    for values in runs(program, [Point(node) for node in nodes], images, progress, "calibration: channels"):
        for sums, value in zip(seen, values, strict=True):
            for image in _channel_rows(value.detach().float(), axis):
                sums.add(*image)
    return [sums.channels() for sums in seen]


@dataclass
class _ChannelSums:
    """What `Channels` needs, image by image: the same sums in whatever portions the images come."""

    least: Tensor | float = torch.inf
    most: Tensor | float = -torch.inf
    mean: Tensor | float = 0.0
    typical: Tensor | float = 0.0
    images: int = 0

    def add(self, least: Tensor, most: Tensor, mean: Tensor) -> None:
        """Take in one image, `[channels]` each."""
        self.least, self.most = least.clamp(max=self.least), most.clamp(min=self.most)
        self.mean = mean.double() + self.mean
        self.typical = torch.maximum(least.abs(), most.abs()).double() + self.typical
        self.images += 1

    def channels(self) -> Channels:
        """Over all images."""
        sums = (torch.as_tensor(each) for each in (self.mean, self.typical))
        mean, typical = ((each / self.images).float() for each in sums)
        return Channels(torch.as_tensor(self.least), torch.as_tensor(self.most), mean, typical)


def _channel_rows(value: Tensor, axis: int) -> Tensor:
    """Least value, largest value and mean of each channel in each image, `[images, 3, channels]`."""
    other = [dim for dim in range(1, value.dim()) if dim != axis % value.dim()]
    if not other:
        return torch.stack([value, value, value], 1)
    return torch.stack([value.amin(other), value.amax(other), value.mean(other)], 1)


class Tap(fx.Interpreter):
    """Runs a graph and keeps what stands at some points."""

    def __init__(self, program: Program, points: Sequence[Point]) -> None:
        super().__init__(program.module)
        self.outputs = {point.node: point for point in points if not point.inside}
        self.softmaxes = {point.node: point for point in points if point.inside}
        self.kept = dict[Point, Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        """Run it, and keep its value if it is a point."""
        value = super().run_node(n)
        if n in self.outputs:
            self.kept[self.outputs[n]] = value
        if n in self.softmaxes:
            q, k, _, bias, scale = self.fetch_args_kwargs_from_env(n)[0][:5]
            self.kept[self.softmaxes[n]] = probabilities(q, k, bias, scale)
        return value


def runs(
    program: Program,
    points: Sequence[Point],
    images: Images,
    progress: Callable[[str, int, int], None],
    what: str,
) -> Iterator[list[Tensor]]:
    """The values at the points, batch by batch, while `progress` is told of `what`."""
    done = 0
    tap = Tap(program, points)
    for pixels, count in filled_batches(program, images):
        with torch.no_grad():
            tap.run(pixels)
        done += count
        progress(what, done, len(images))
        yield [tap.kept[point] for point in points]
        tap.kept.clear()


def filled_batches(program: Program, images: Images) -> Iterator[tuple[Tensor, int]]:
    """Batches that the program takes, and how many images of each count: a static batch is filled up with its own.

    Raises `InputError` if there is no image.
    """
    if len(images) == 0:
        raise InputError("calibration needs at least one image; name a folder with --calibration-data, or `random`")
    batch = program.input_types()[0].shape[0]
    size = batch if isinstance(batch, int) else 8
    for pixels, _ in images.batches(size):
        count = pixels.shape[0]
        yield (_fill(pixels, size) if isinstance(batch, int) and count < size else pixels), count


def all_units(program: Program, images: Images) -> Tensor:
    """The images as units of the program, one run of its graph each: `[units, batch, C, H, W]`, the batch 1 where it is unknown."""
    shape = program.input_types()[0].at(1)
    units, at = torch.empty(-(-len(images) // shape[0]), *shape), 0
    for pixels, _ in filled_batches(program, images):
        some = pixels.reshape(-1, *shape)
        units[at : at + len(some)] = some
        at += len(some)
    return units


def _fill(pixels: Tensor, size: int) -> Tensor:
    """A last, smaller batch filled up with its own images again: a static graph takes nothing else."""
    return pixels[torch.arange(size) % pixels.shape[0]]


def threshold(statistics: Statistics, method: Method, percentile: float = 99.99, grid: Format = INT8) -> float:
    """The magnitude that becomes the largest code (127); what is larger is clipped.

    `percentile` is in percent, used by that method only. Raises `InputError` for entropy where codes are no equal steps.
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


def _squared_error(statistics: Statistics, top: float, grid: Format) -> float:
    """Expected squared error of rounding and clipping at `top`."""
    centers = statistics.centers()
    step = top / grid.high
    rounded = grid.nearest(centers / step) * step
    return float((statistics.counts * (centers - rounded).square()).sum())


def _entropy(statistics: Statistics, top: float, grid: Format) -> float:
    """Kullback–Leibler divergence from the clipped distribution to its 127-level version (S. Migacz, GTC 2017)."""
    levels = int(grid.high)
    kept = max(levels, round(top / statistics.largest * BINS))
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
    weight: Tensor, method: Literal["minmax", "mse"] = "minmax", grid: Format = INT8, group: int | None = None
) -> Tensor:
    """Positive scales for `weight` `[out, …]`: `[out]`, one for each output channel.

    With `group`, for `[out, in]`: `[out, in / group]`, one for each `group` weights along the input.
    """
    rows = weight.detach().float().flatten(1)
    if group is not None:
        rows = rows.reshape(len(rows), -1, group)
    top = rows.abs().amax(-1).clamp(min=_SMALLEST)
    if method == "minmax":
        return top / grid.high
    best, least = top.clone(), torch.full_like(top, torch.inf)
    for ratio in torch.linspace(0.6, 1.0, 21):
        step = (top * ratio / grid.high).unsqueeze(-1)
        error = (grid.nearest(rows / step) * step - rows).square().sum(-1)
        better = error < least
        best, least = torch.where(better, top * ratio, best), torch.where(better, error, least)
    return best / grid.high
