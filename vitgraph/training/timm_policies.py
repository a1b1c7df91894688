"""timm's policies of augmentation with a Pillow that they were not written for.

Before:
    posterize(image, bits=0)    # now and then, of rand-m9-mstd0.5-inc1 for 1 image in 250: Pillow 13 refuses it

After:
    a black image: what is left of none of its bits
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from PIL.Image import Image


def posterize_to_black(transform: Any) -> None:
    """Let every posterize of timm's training transform (AutoAugment, RandAugment, AugMix) keep no bits at all."""
    for step in transform.transforms:
        for operation in _operations(getattr(step, "policy", None) or getattr(step, "ops", None) or ()):
            if operation.name.startswith("Posterize"):
                operation.aug_fn = partial(_posterized, operation.aug_fn)


def _operations(held: Any) -> Iterator[Any]:
    """The operations of a list, or of the lists in it."""
    if not isinstance(held, list | tuple):
        yield held
        return
    for each in cast(Sequence[Any], held):
        yield from _operations(each)


def _posterized(posterize: Callable[..., Image], image: Image, bits: int, **options: Any) -> Image:
    return image.point([0] * 256 * len(image.getbands())) if bits < 1 else posterize(image, bits, **options)
