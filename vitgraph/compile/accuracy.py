"""Top-1 accuracy of a runner on labelled images, and how often two runners agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.progress import Progress, silent


class Runs(Protocol):
    """Anything that turns a batch `[B, C, H, W]` into logits `[B, classes]`."""

    def run(self, batch: Tensor) -> Tensor:
        """The logits."""
        ...


@dataclass(frozen=True)
class Predictions:
    """Predicted classes and labels, both `[images]`; no labels where the images have none."""

    classes: Tensor
    labels: Tensor | None

    @property
    def top1(self) -> float | None:
        """Share of images whose predicted class is their label, in percent."""
        return None if self.labels is None else 100.0 * float((self.classes == self.labels).double().mean())

    def agreement(self, other: Predictions) -> float:
        """Share of images for which both predict the same class, in percent."""
        return 100.0 * float((self.classes == other.classes).double().mean())


def predict(
    runner: Runs,
    images: Images,
    batch: int | None,
    progress: Progress = silent,
    what: str = "evaluation",
) -> Predictions:
    """Run all images; a runner with a fixed `batch` gets its last batch filled up, and the filling is not counted.

    Raises `InputError` for a model that does not classify.
    """
    classes, labels = list[int](), list[int]()  # a tensor kept of each image would pin the heap
    for pixels, truth in images.batches(batch or 8):
        count = pixels.shape[0]
        short = batch is not None and count < batch
        logits = runner.run(pixels[torch.arange(batch or 0) % count] if short else pixels)[:count]
        if logits.dim() != 2:
            raise InputError(
                f"accuracy needs a model whose output is [images, classes]; this one gives {list(logits.shape)}"
            )
        classes += map(int, logits.argmax(-1))
        if truth is not None:
            labels += map(int, truth)
        progress(what, len(classes), len(images))
    return Predictions(torch.tensor(classes), torch.tensor(labels) if labels else None)
