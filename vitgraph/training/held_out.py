"""Images that are kept back from training, to choose by: a part of the training images, never those that accuracy is reported on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vitgraph.errors import InputError
from vitgraph.images.image_set import ImageSet
from vitgraph.training.distill import augment
from vitgraph.training.random_states import seeded

Logits = Callable[[Tensor], Tensor]
"""`[B, C, H, W]` to `[B, classes]`."""
BATCH = 100


@dataclass(frozen=True)
class HeldOutScore:
    """How well a model does on the held-out images."""

    accuracy: float
    """Top-1 in percent; without labels, how often it agrees with the dense model."""
    divergence: float
    """Kullback–Leibler from the dense model's answer, mean over the images, in nats."""


def split(images: ImageSet, held_out: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """Images to train with and images to choose by, drawn by the seed; no image is in both.

    Raises `InputError` where fewer images than held out would be left to train with.
    """
    if len(images) < 2 * held_out:
        raise InputError(
            f"images {images.source}: {len(images)}, of which {held_out} are to be held out; name more images, or hold out fewer"
        )
    order = [int(row) for row in torch.randperm(len(images), generator=seeded(seed, "held out"))]
    return images.take(sorted(order[held_out:])), images.take(sorted(order[:held_out]))


def check_apart(images: ImageSet, evaluation: ImageSet) -> None:
    """Raise `InputError` if an image to report accuracy on is among those to train with and choose by."""
    seen = set(images.digests())
    shared = sum(digest in seen for digest in evaluation.digests())
    if shared:
        raise InputError(
            f"images {evaluation.source}: {shared} of {len(evaluation)} are among the images of {images.source} that are trained "
            "with and chosen by; accuracy is reported on others"
        )


class Judge:
    """The held-out images in memory, with the dense model's answers; scores models on them.

    They may be images that the model learned from before it came here, and of which it knows more than of others. Mirrored and
    shifted, by a `seed`, the same way for all, they are nearer to images that it never saw; without one they are as they are.
    """

    def __init__(
        self, images: ImageSet, dense: Logits, device: torch.device | None = None, seed: int | None = None
    ) -> None:
        batches = [pixels for pixels, _ in images.batches(BATCH)]
        if seed is not None:
            batches = [augment(each, seeded(seed, "judged views", place)) for place, each in enumerate(batches)]
        self.batches = [each.to(device or "cpu") for each in batches]
        self.labelled = images.labels is not None
        with torch.no_grad():
            self.reference = torch.cat([dense(pixels) for pixels in self.batches]).cpu()
        self.labels = self.reference.argmax(-1) if images.labels is None else torch.tensor(images.labels)

    @torch.no_grad()
    def score(self, model: Logits) -> HeldOutScore:
        """Run all the images."""
        logits = torch.cat([model(pixels) for pixels in self.batches]).cpu()
        accuracy = 100 * float((logits.argmax(-1) == self.labels).double().mean())
        wanted = functional.log_softmax(self.reference.double(), -1)
        gap = wanted - functional.log_softmax(logits.double(), -1)
        return HeldOutScore(accuracy, float((wanted.exp() * gap).sum(-1).mean()))
