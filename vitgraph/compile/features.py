"""How good features are: how near those of two runners lie, and which images each takes for alike."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from vitgraph.compile.image_outputs import Runs, outputs_of
from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.progress import Progress, silent

NEIGHBOURS = 20
TEMPERATURE = 0.07
"""Of the vote among neighbours, both as DINO has them (Caron et al., arXiv 2104.14294; Wu et al., arXiv 1805.01978)."""
MOST_BYTES = 2 << 30
"""All features are in memory at once: neighbours are sought among all of them."""
_ROWS = 512
_log = logging.getLogger("vitgraph")


@dataclass(frozen=True)
class Features:
    """All that each image's output holds as one vector of length 1, `[images, numbers]`; labels `[images]` where there are some."""

    values: Tensor
    """Zeros where the output holds NaN or infinity: such an image is like no other, and has no neighbour."""
    labels: Tensor | None
    not_finite: int
    """For how many images that is so."""

    def cosines(self, other: Features) -> Tensor:
        """Between an image's features here and there, `[images]`."""
        return (self.values.double() * other.values.double()).sum(-1).clamp(-1.0, 1.0)

    def neighbour_agreement(self, other: Features) -> float | None:
        """Share of images whose nearest neighbour is the same image, in percent; None for one image, which has none."""
        if len(self.values) < 2:
            return None
        mine, theirs = self._nearest[1][:, 0], other._nearest[1][:, 0]
        told = self.values.any(-1) & other.values.any(-1)
        return 100.0 * float(((mine == theirs) & told).double().mean())

    @property
    def knn_top1(self) -> float | None:
        """Share of images that the others' labels classify rightly, in percent: the `NEIGHBOURS` nearest vote, by exp(cosine / `TEMPERATURE`)."""
        if self.labels is None or len(self.values) < 2:
            return None
        near, which = self._nearest
        labels = list(map(int, self.labels))
        place = {label: row for row, label in enumerate(sorted(set(labels)))}
        classes = torch.tensor([place[label] for label in labels])
        votes = torch.zeros(len(classes), len(place), dtype=torch.float64)
        votes.scatter_add_(1, classes[which], (near.double() / TEMPERATURE).exp())
        right = (votes.argmax(-1) == classes) & self.values.any(-1)
        return 100.0 * float(right.double().mean())

    @cached_property
    def _nearest(self) -> tuple[Tensor, Tensor]:
        """Cosines and places of the nearest other images, falling: `[images, neighbours]` both."""
        parts = list(self._rows())
        return torch.cat([near for near, _ in parts]), torch.cat([which for _, which in parts])

    def _rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = min(NEIGHBOURS, len(self.values) - 1)
        for start in range(0, len(self.values), _ROWS):
            alike = self.values[start : start + _ROWS] @ self.values.T
            alike[torch.arange(len(alike)), torch.arange(start, start + len(alike))] = -2.0  # itself
            near, which = alike.topk(count, -1)
            yield near, which


def embed(
    runner: Runs, images: Images, batch: int | None, progress: Progress = silent, what: str = "evaluation"
) -> Features:
    """Run all images, as `predict` does for classes.

    Raises `InputError` where the features of so many images would not fit into memory. A warning says where all images get the
    same features, since then nothing can be told by them.
    """
    kept, labels, done, sick = torch.empty(0), list[int](), 0, 0
    for output, truth in outputs_of(runner, images, batch, progress, what):
        rows = output.float().flatten(1)
        kept = kept if done else _room(len(images), rows.shape[1])
        sound = rows.isfinite().all(-1)
        sick += int((~sound).sum())
        kept[done : done + len(rows)] = functional.normalize(rows.where(sound[:, None], 0.0))
        done += len(rows)
        labels += [] if truth is None else map(int, truth)  # a tensor of one 0 is false
    if done > 1 and bool((kept == kept[:1]).all()):
        _log.warning("%s: all %d images were given the same features", what, done)
    return Features(kept, torch.tensor(labels) if labels else None, sick)


def _room(images: int, numbers: int) -> Tensor:
    """Made once: a tensor kept of each batch would pin the heap."""
    if images * numbers * 4 > MOST_BYTES:
        raise InputError(
            f"{images} images with {numbers} features each take more than {MOST_BYTES >> 30} GiB; give at most "
            f"{MOST_BYTES // (4 * numbers)} (--evaluate-images, of `evaluate` --images), or a model that gives one vector an image"
        )
    return torch.empty(images, numbers)
