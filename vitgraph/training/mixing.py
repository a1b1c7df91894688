"""What a batch is to be taken for: a target for every image, and images mixed by mixup and cutmix with theirs.

An image without a label has a target of zeros, which weighs nothing in a cross-entropy. A mixed image has the mix of its two
targets; the sum of its row is the share of it that has a label.

mixup: Zhang et al., arXiv 1710.09412; cutmix: Yun et al., arXiv 1905.04899; both by timm, one choice for a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vitgraph.errors import InputError
from vitgraph.training.random_states import seed_generators
from vitgraph.training.settings import Augmentation


def smoothed_targets(labels: Sequence[int | None], classes: int, smoothing: float) -> Tensor:
    """Targets [B, classes] in float32; a row of zeros where there is no label.

    >>> smoothed_targets([1, None], 2, 0.2)
    tensor([[0.1000, 0.9000],
            [0.0000, 0.0000]])
    """
    known = torch.tensor([label is not None for label in labels])
    indices = torch.tensor([label or 0 for label in labels])
    hot = functional.one_hot(indices, classes).to(torch.float32)
    return (hot * (1 - smoothing) + smoothing / classes) * known[:, None]


class Mixing:
    """Mixes the images of a batch in pairs: the first with the last, the second with the last but one."""

    def __init__(self, settings: Augmentation, batch_size: int, seed: int) -> None:
        """Raise `InputError` for batches that can't be paired."""
        self.on = settings.mixup_prob > 0 and (settings.mixup > 0 or settings.cutmix > 0)
        self.seed = seed
        if not self.on:
            return
        if batch_size % 2:
            raise InputError(
                f"batch_size {batch_size}: mixup and cutmix mix the images of a batch in pairs; make it even, or set both to 0"
            )
        self._mixup: Any = import_module("timm.data").Mixup(
            mixup_alpha=settings.mixup,
            cutmix_alpha=settings.cutmix,
            prob=settings.mixup_prob,
            switch_prob=settings.mixup_switch_prob,
            label_smoothing=0.0,
            num_classes=batch_size,
        )

    def __call__(self, pixels: Tensor, targets: Tensor | None, step: int) -> tuple[Tensor, Tensor | None]:
        """Mix pixels [B, C, H, W] and targets [B, classes], all batches of a step alike. Changes the global generators."""
        if not self.on:
            return pixels, targets
        seed_generators(self.seed, "mixing", step)
        mixed, weights = self._mixup(pixels, torch.arange(len(pixels)))  # each image its own class: what is left of it
        if targets is None:
            return mixed, None
        own = weights.diagonal()[:, None]
        return mixed, targets * own + targets.flip(0) * (1 - own)
