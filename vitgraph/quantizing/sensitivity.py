"""What quantizing costs, measured without labels: a quantized program held against itself in floating point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.ir.program import Program
from vitgraph.progress import Progress, silent
from vitgraph.quantizing.simulation import Off, Simulation
from vitgraph.quantizing.switches import Switch


@dataclass(frozen=True)
class Damage:
    """How far a program is from the same program in floating point, on average over images."""

    divergence: float
    """Kullback-Leibler divergence of its class probabilities from those in floating point, in nats."""
    drop: float
    """Points of top-1 expected to be lost if the floating-point program's confidence is right. Never negative."""
    agreement: float
    """Images for which both pick the same class, in percent."""


_RANKS = 20
"""How many of the likeliest classes of an image may take the place of the first."""


@dataclass(frozen=True)
class Seen:
    """What is kept of some images' log probabilities."""

    likely: Tensor
    """`[images, ranks]`, in floating point, of the likeliest classes, falling."""
    errors: Tensor
    """`[images, ranks]`: what quantizing added to those."""
    divergence: float
    """Summed over the images."""
    same: int
    """Images whose first class is the same."""

    @staticmethod
    def of(reference: Tensor, logits: Tensor) -> Seen:
        """From log probabilities in floating point and what was found, both `[images, classes]`."""
        found = logits.log_softmax(-1)
        likely, classes = reference.topk(min(_RANKS, reference.shape[-1]), -1)
        divergence = float((reference.exp() * (reference - found)).sum())
        same = int((reference.argmax(-1) == found.argmax(-1)).sum())
        return Seen(likely, found.gather(-1, classes) - likely, divergence, same)


def damage_of(seen: Sequence[Seen]) -> Damage:
    """All images together. Each image's confidence meets every image's errors, rank by rank: what p[first class] -
    p[class picked instead] is on average over all those pairs. On the images' own errors alone, a few that happen to
    flip decide everything: on 32 images the standard deviation is twice as large (ViT-Tiny, ImageNet)."""
    likely, errors = torch.cat([each.likely for each in seen]), torch.cat([each.errors for each in seen])
    p, count = likely.exp(), len(likely)
    lost = 0.0
    for error in errors:
        picked = (likely + error).argmax(-1, keepdim=True)
        lost += float((p[:, :1] - p.gather(-1, picked)).double().sum())
    return Damage(
        sum(each.divergence for each in seen) / count,
        100 * lost / count**2,
        100 * sum(each.same for each in seen) / count,
    )


class Sensitivity:
    """Measures what switches cost, on the first `count` images.

    Raises `InputError` for a program that does not give one score a class, or without images.
    """

    def __init__(self, program: Program, images: Images, count: int, progress: Progress = silent) -> None:
        self._batches = list(_cut(program, images, count))
        if not self._batches:
            raise InputError("placement needs at least one image to measure on; name a folder with --calibration-data")
        self._progress, self._simulation, self._float = progress, Simulation(program), Off.all_of(program)
        self._reference = [
            self._simulation.run(pixels, self._float)[0][:kept].log_softmax(-1) for pixels, kept in self._batches
        ]

    def __len__(self) -> int:
        """How many images are measured."""
        return sum(kept for _, kept in self._batches)

    def alone(self, switches: Sequence[Switch], what: str = "placement: one at a time") -> list[Damage]:
        """The damage of each switch if nothing else is quantized."""
        return self._measure(self._float, [self._float.but(switch) for switch in switches], what)[1:]

    def without(
        self, base: Iterable[Switch], variants: Sequence[Iterable[Switch]] = (), what: str = "placement: all but one"
    ) -> list[Damage]:
        """The damage with the switches of `base` off, and then with those of each variant off."""
        return self._measure(Off.of(base), [Off.of(variant) for variant in variants], what)

    def _measure(self, base: Off, variants: list[Off], what: str) -> list[Damage]:
        seen = [list[Seen]() for _ in range(len(variants) + 1)]
        done, total = 0, len(self)
        for (pixels, kept), reference in zip(self._batches, self._reference, strict=True):
            self._progress(what, done, total)
            for each, logits in zip(seen, self._simulation.run(pixels, base, variants), strict=True):
                each.append(Seen.of(reference, logits[:kept]))
            done += kept
        self._progress(what, done, total)
        return [damage_of(each) for each in seen]


def _cut(program: Program, images: Images, count: int) -> Iterator[tuple[Tensor, int]]:
    """Batches that the program takes, and how many of each batch are images and not filling."""
    batch = program.input_types()[0].shape[0]
    size = batch if isinstance(batch, int) else 8
    left = count
    for pixels, _ in images.batches(size):
        kept = min(left, pixels.shape[0])
        if kept == 0:
            return
        filled = torch.arange(size if isinstance(batch, int) else kept) % kept
        yield pixels[filled], kept
        left -= kept
