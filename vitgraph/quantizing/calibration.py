"""What calibration images show of a program's values: streaming, in bounded memory, the same for every batch size.

Two runs over the images: the first finds each observer's largest magnitude, the second counts magnitudes into a histogram
of that range. A histogram is the same in whatever chunks the images come (only a static batch over 1 fills its last
one). `vitgraph.quantizing.scales` picks scales from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.ir.dialect import probabilities
from vitgraph.ir.program import Program
from vitgraph.progress import Progress, silent
from vitgraph.quantizing.scales import BINS, SMALLEST, Statistics
from vitgraph.runtime.activation_store import ActivationStore


@dataclass(frozen=True)
class Observer:
    """A value to watch: what a node gives, or the softmax's output inside an attention."""

    node: fx.Node
    inside: bool = False


def observe(
    program: Program,
    observers: Sequence[Observer],
    images: Images,
    *,
    histograms: bool = True,
    progress: Progress = silent,
) -> list[Statistics]:
    """Statistics of the values at `observers`, over all images.

    Without `histograms`, one run is enough and the counts stay empty. Raises `InputError` if there is no image.
    """
    largest = [0.0] * len(observers)
    for values in runs(program, observers, images, progress, "calibration: ranges"):
        largest = [max(old, float(value.abs().max())) for old, value in zip(largest, values, strict=True)]
    found = [Statistics(max(amax, SMALLEST), torch.zeros(BINS, dtype=torch.float64)) for amax in largest]
    if histograms:
        for values in runs(program, observers, images, progress, "calibration: histograms"):
            for statistics, value in zip(found, values, strict=True):
                magnitudes = value.detach().float().abs().flatten()
                statistics.counts += torch.histc(magnitudes, BINS, 0.0, statistics.largest).double()
    return found


@dataclass
class ChannelStatistics:
    """What was seen of a value, channel by channel: vectors `[channels]`, float32."""

    least: Tensor
    most: Tensor
    mean: Tensor
    typical: Tensor
    """The mean, over the images, of the largest magnitude in each: images not seen exceed it as those seen do."""
    rows: int
    """How many numbers of each channel were seen: tokens of all images."""

    @property
    def largest(self) -> Tensor:
        """The largest magnitude of each channel."""
        return torch.maximum(self.least.abs(), self.most.abs())


def observe_channels(
    program: Program,
    nodes: Sequence[fx.Node],
    images: Images,
    progress: Progress = silent,
    axis: int | Sequence[int] = -1,
) -> list[ChannelStatistics]:
    """Range and mean of each channel of each node's value, over all images.

    The channels lie along dimension `axis` (of all, or one for each node), the images (or windows of them) along dimension 0.
    """
    axes = [axis] * len(nodes) if isinstance(axis, int) else axis
    seen = [_ChannelSums() for _ in nodes]
    for values in runs(program, [Observer(node) for node in nodes], images, progress, "calibration: channels"):
        for sums, value, along in zip(seen, values, axes, strict=True):
            sums.rows += value.numel() // value.shape[along]
            for image in _channel_rows(value.detach().float(), along):
                sums.add(*image)
    return [sums.channels() for sums in seen]


@dataclass
class _ChannelSums:
    """What `ChannelStatistics` needs, image by image: the same sums in whatever chunks the images come."""

    least: Tensor | float = torch.inf
    most: Tensor | float = -torch.inf
    mean: Tensor | float = 0.0
    typical: Tensor | float = 0.0
    images: int = 0
    rows: int = 0

    def add(self, least: Tensor, most: Tensor, mean: Tensor) -> None:
        """Take in one image, `[channels]` each."""
        self.least, self.most = least.clamp(max=self.least), most.clamp(min=self.most)
        self.mean = mean.double() + self.mean
        self.typical = torch.maximum(least.abs(), most.abs()).double() + self.typical
        self.images += 1

    def channels(self) -> ChannelStatistics:
        """Over all images."""
        sums = (torch.as_tensor(each) for each in (self.mean, self.typical))
        mean, typical = ((each / self.images).float() for each in sums)
        return ChannelStatistics(torch.as_tensor(self.least), torch.as_tensor(self.most), mean, typical, self.rows)


def _channel_rows(value: Tensor, axis: int) -> Tensor:
    """Least value, largest value and mean of each channel in each image, `[images, 3, channels]`."""
    other = [dim for dim in range(1, value.dim()) if dim != axis % value.dim()]
    if not other:
        return torch.stack([value, value, value], 1)
    return torch.stack([value.amin(other), value.amax(other), value.mean(other)], 1)


def mean_squares(
    program: Program,
    nodes: Sequence[fx.Node],
    images: Images,
    progress: Progress = silent,
) -> list[Tensor]:
    """The mean square of each channel (the last dimension) of each node's value, over all images: `[channels]`, float64.

    Image by image, so that the result is the same in whatever chunks they come.
    """
    totals, count = [torch.zeros(1, dtype=torch.float64) for _ in nodes], 0
    for values in runs(program, [Observer(node) for node in nodes], images, progress, "calibration: squares"):
        for at, value in enumerate(values):
            squares = value.detach().float().square()
            for image in squares.reshape(len(value), -1, value.shape[-1]).mean(1):
                totals[at] = totals[at] + image.double()
        count += values[0].shape[0]
    return [total / count for total in totals]


class Tap(fx.Interpreter):
    """Runs a graph and keeps what stands at some observers."""

    def __init__(self, program: Program, observers: Sequence[Observer]) -> None:
        super().__init__(program.module)
        self.outputs = {observer.node: observer for observer in observers if not observer.inside}
        self.softmaxes = {observer.node: observer for observer in observers if observer.inside}
        self.kept = dict[Observer, Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        """Run it, and keep its value if it is a observer."""
        value = super().run_node(n)
        if n in self.outputs:
            self.kept[self.outputs[n]] = value
        if n in self.softmaxes:
            q, k, _, bias, scale = self.fetch_args_kwargs_from_env(n)[0][:5]
            self.kept[self.softmaxes[n]] = probabilities(q, k, bias, scale)
        return value


def runs(
    program: Program,
    observers: Sequence[Observer],
    images: Images,
    progress: Progress,
    what: str,
) -> Iterator[list[Tensor]]:
    """The values at the observers, batch by batch, while `progress` is told of `what`."""
    done = 0
    tap = Tap(program, observers)
    for pixels, count in filled_batches(program, images):
        with torch.no_grad():
            tap.run(pixels)
        done += count
        progress(what, done, len(images))
        yield [tap.kept[observer] for observer in observers]
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


def all_units(program: Program, images: Images) -> ActivationStore:
    """The images as units of the program, one run of its graph each: `[batch, C, H, W]`, the batch 1 where it is unknown."""
    shape = program.input_types()[0].at(1)
    units, at = ActivationStore(-(-len(images) // shape[0]), shape), 0
    for pixels, _ in filled_batches(program, images):
        some = pixels.reshape(-1, *shape)
        units.write(at, some)
        at += len(some)
    return units


def _fill(pixels: Tensor, size: int) -> Tensor:
    """A last, smaller batch filled up with its own images again: a static graph takes nothing else."""
    return pixels[torch.arange(size) % pixels.shape[0]]
