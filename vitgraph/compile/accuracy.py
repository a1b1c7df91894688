"""Top-1 accuracy of a runner on labelled images, and how often two runners agree."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from vitgraph.compile.image_outputs import Runs, outputs_of
from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.progress import Progress, silent

_log = logging.getLogger("vitgraph")


@dataclass(frozen=True)
class Predictions:
    """Predicted classes and labels, both `[images]`; no labels where the images have none."""

    classes: Tensor
    """-1 where the logits are not finite: it is no label, and agrees with nothing."""
    labels: Tensor | None
    width: int | None = None
    """How many classes the model has; None where that was not kept."""

    @property
    def top1(self) -> float | None:
        """Share of images whose predicted class is their label, in percent."""
        return None if self.labels is None else 100.0 * float((self.classes == self.labels).double().mean())

    def agreement(self, other: Predictions) -> float:
        """Share of images for which both predict the same class, in percent."""
        return 100.0 * float(((self.classes == other.classes) & (self.classes >= 0)).double().mean())

    @property
    def not_finite(self) -> int:
        """For how many images the logits hold NaN or infinity."""
        return int((self.classes < 0).sum())


def predict(
    runner: Runs,
    images: Images,
    batch: int | None,
    progress: Progress = silent,
    what: str = "evaluation",
) -> Predictions:
    """Run all images; a runner with a fixed `batch` gets its last batch filled up, and the filling is not counted.

    Raises `InputError` for a model that does not classify, and for labels that are none of its classes. A warning says
    where all images get one class, since then neither accuracy nor agreement tells much.
    """
    classes, labels, width = list[int](), list[int](), 0  # a tensor kept of each image would pin the heap
    for logits, truth in outputs_of(runner, images, batch, progress, what):
        if logits.dim() != 2:
            raise InputError(
                f"accuracy needs a model whose output is [images, classes]; this one gives {list(logits.shape)}"
            )
        width = logits.shape[-1]
        classes += map(int, logits.argmax(-1).where(logits.isfinite().all(-1), -1))
        if truth is not None:
            labels += _checked(truth, width)
    if len(classes) > 1 and len(set(classes)) == 1 and len(set(labels)) != 1:
        _log.warning("%s: all %d images were given class %d", what, len(classes), classes[0])
    return Predictions(torch.tensor(classes), torch.tensor(labels) if labels else None, width)


def _checked(truth: Iterable[int], classes: int) -> list[int]:
    labels = [int(label) for label in truth]
    if max(labels, default=0) >= classes:
        raise InputError(
            f"an image is of class {max(labels)}, but the model has classes 0 to {classes - 1}; give the model these "
            "images were labelled for (a module that gives features says so with num_classes = 0)"
        )
    return labels
