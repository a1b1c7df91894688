"""How an image varies from one look to the next: timm's training transform for pictures, the same steps for tensors.

| step                     | picture (8 bits)                          | normalized tensor                          |
|--------------------------|-------------------------------------------|--------------------------------------------|
| random resized crop      | timm, with the model's own interpolation  | torchvision; bicubic for what it lacks     |
| flips                    | torchvision                               | torchvision                                |
| `color_jitter`, `aa`     | torchvision, timm                         | refused: they ask for pixels of 0 to 255   |
| to [0, 1], normalize     | with the model's mean and deviation       | came so                                    |
| `reprob`                 | timm, filled with noise (`pixel`)         | the same                                   |

One value goes with every position of the sequence of training images: whichever process makes it, the tensor is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.images.image_set import ImageSet
from vitgraph.images.preprocess import Preprocessing
from vitgraph.training.random_states import seed_generators
from vitgraph.training.settings import Augmentation
from vitgraph.training.timm_policies import posterize_to_black

_FOR_TENSORS = frozenset({"nearest", "bilinear", "bicubic"})
"""Interpolations that torchvision has for tensors."""


class VariedImages:
    """The images of a set, each time another variation of them. A worker process may have it."""

    def __init__(self, images: ImageSet, settings: Augmentation, seed: int) -> None:
        """Raise `InputError` for a policy that timm lacks, and for colours of images that have none left."""
        self.images, self.seed = images, seed
        self._normalize: _Normalize | None = None
        if isinstance(images.picture(0), Tensor):
            self._vary = _for_tensors(images, settings)
        else:
            preprocessing = _known(images)
            self._vary = _for_pictures(preprocessing, settings)
            self._normalize = _Normalize(preprocessing)
        self._erase = _eraser(settings.reprob)

    def pixels(self, row: int, position: int) -> Tensor:
        """Image `row` at this position of the sequence: normalized float32 [C, H, W]. Changes the global generators."""
        seed_generators(self.seed, "variation", position)
        pixels: Tensor = self._vary(self.images.picture(row))
        if self._normalize is not None:
            pixels = self._normalize(pixels)
        return pixels if self._erase is None else self._erase(pixels)


def _known(images: ImageSet) -> Preprocessing:
    if images.preprocessing is None:
        raise InputError(f"images {images.source}: how they are normalized is unknown; hand in normalized tensors")
    return images.preprocessing


def _for_pictures(preprocessing: Preprocessing, settings: Augmentation) -> Any:
    """From an image of Pillow to pixels of 0 to 255 in uint8 [C, H, W]."""
    try:
        transform: Any = import_module("timm.data").create_transform(
            preprocessing.input_shape,
            is_training=True,
            scale=settings.crop_scale,
            ratio=settings.ratio,
            hflip=settings.hflip,
            vflip=settings.vflip,
            color_jitter=settings.color_jitter or None,
            auto_augment=settings.aa,
            interpolation=preprocessing.interpolation,
            mean=preprocessing.mean,
            re_prob=0.0,
            normalize=False,
        )
    except (AssertionError, LookupError, ValueError) as error:
        why = str(error) or type(error).__name__
        raise InputError(f"aa {settings.aa!r}: {why}; write one of timm's policies, as rand-m9-mstd0.5-inc1") from error
    posterize_to_black(transform)
    return transform


def _for_tensors(images: ImageSet, settings: Augmentation) -> Any:
    """From a normalized tensor [C, H, W] to one of the same shape."""
    for name in ("color_jitter", "aa"):
        if getattr(settings, name):
            raise InputError(
                f"{name} {getattr(settings, name)}: it changes pixels of 0 to 255, and the images {images.source} are "
                f"normalized tensors; leave {name} out, or name a folder or a zip of images"
            )
    v2: Any = import_module("torchvision.transforms.v2")
    own = "bicubic" if images.preprocessing is None else images.preprocessing.interpolation
    interpolation = v2.InterpolationMode(own if own in _FOR_TENSORS else "bicubic")
    size = images.image_shape[1:]
    return v2.Compose([
        v2.RandomResizedCrop(size, settings.crop_scale, settings.ratio, interpolation, antialias=True),
        v2.RandomHorizontalFlip(settings.hflip),
        v2.RandomVerticalFlip(settings.vflip),
    ])  # fmt: skip


class _Normalize:
    """From pixels of 0 to 255 to what `Preprocessing.normalize` makes of them, with its constants at hand."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._mean, self._std = (
            torch.tensor(each, dtype=torch.float32)[:, None, None] for each in (preprocessing.mean, preprocessing.std)
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        return (
            pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255).sub_(self._mean).div_(self._std)
        )


def _eraser(share: float) -> Callable[[Tensor], Tensor] | None:
    if not share:
        return None
    erasing: Any = import_module("timm.data.random_erasing").RandomErasing
    erase: Callable[[Tensor], Tensor] = erasing(share, mode="pixel", device="cpu")
    return erase
