"""Do images differ? Where every one is a plain colour, or all are equal, nothing can be learnt from them or told by them.

Such sets come of a conversion that went wrong (16 bits cut to white), of masks in the pictures' place, or of one file copied.
"""

from __future__ import annotations

import logging
from itertools import islice

from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.images.image_set import NOISE, ImageSet, stride

_LOOKED_AT = 32
_log = logging.getLogger("vitgraph")


def check_variety(images: ImageSet) -> None:
    """Look at some of the images, evenly strided; noise passes unseen.

    Raises `InputError` where each has one colour. Where most have, or all are equal, a warning says so.
    """
    if images.kind == NOISE:
        return
    looked = images.take(stride(len(images), _LOOKED_AT))
    pictures = [image for batch, _ in looked.batches(8) for image in batch]
    plain = [name for name, image in zip(looked.names, pictures, strict=True) if _is_plain(image)]
    if len(plain) == len(pictures):
        raise InputError(
            f"images {images.source}: {_all(pictures)} of one colour throughout ({_first(plain)}), so nothing can be "
            "measured on them; check how they were made"
        )
    if 2 * len(plain) > len(pictures):
        _log.warning(
            "images %s: %d of %d that were looked at have one colour throughout (%s)",
            images.source, len(plain), len(pictures), _first(plain),
        )  # fmt: skip
    if len(pictures) > 1 and all(bool((image == pictures[0]).all()) for image in pictures[1:]):
        _log.warning("images %s: %s equal, so they tell no more than one would", images.source, _all(pictures))


def _is_plain(image: Tensor) -> bool:
    """Whether each channel of [C, H, W] has one value."""
    values = image.flatten(1) if image.dim() > 1 else image[None]  # tokens: all the same
    return bool((values == values[:, :1]).all())


def _all(pictures: list[Tensor]) -> str:
    return f"all {len(pictures)} that were looked at are" if len(pictures) > 1 else "the only one is"


def _first(names: list[str]) -> str:
    return ", ".join(islice(names, 3)) + (", …" if len(names) > 3 else "")
