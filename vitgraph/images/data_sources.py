"""Everything that stands for images in Python, as one `ImageSet`.

| data                                    | what is taken of it with a `limit`                                       |
|-----------------------------------------|--------------------------------------------------------------------------|
| `str` or `Path`                         | as on the command line: see `vitgraph.images.image_set`                    |
| tensor [N, C, H, W], or with labels [N] | evenly strided images                                                    |
| list, tuple, `Dataset` of single images | evenly strided items                                                     |
| `DataLoader`, generator, any iterable   | the first images in its order; it is run through once and no further     |
| `ImageSet`                              | evenly strided images                                                    |

An item is an image [C, H, W], a batch [B, C, H, W], a pair of either with its labels, or a mapping with `pixel_values`
and `labels` as collators of transformers give. Floats are taken as they are: pre-processed. Whole numbers (`uint8`) and
images of PIL are pre-processed as the model says.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.images.image_set import ImageSet, open_images, stride
from vitgraph.images.preprocess import Preprocessing
from vitgraph.images.tensor_images import Collector, What, is_tokens


class Items(Protocol):
    """A `Dataset`, or whatever else gives an item for its number."""

    def __getitem__(self, index: int, /) -> Any:
        """The item of this number, from 0."""
        ...


Data = str | Path | Tensor | ImageSet | Iterable[Any] | Items
"""What `open_data` takes."""

_FORMS = "a path, a tensor [N, C, H, W], a DataLoader, a Dataset, or an iterable of tensors or (tensor, label)"
_IMAGES, _LABELS = ("pixel_values", "image", "images"), ("labels", "label")
_log = logging.getLogger("vitgraph")


def open_data(
    data: Data,
    preprocessing: Preprocessing | None,
    limit: int | None = None,
    seed: int = 0,
    what: What = "calibration",
    shape: tuple[int, ...] | None = None,
) -> ImageSet:
    """The images of `data` (see the module's table), `limit` at most, each checked and kept.

    `preprocessing` is the model's, None where it tells none: then files can't be read, and tensors have to be floats.
    `shape` is the [C, H, W] that the model takes; None takes that of `preprocessing`, or of the first image. Raises
    `InputError`, naming the number of the image, where one is of another shape or type, not finite or, for `evaluation`,
    without a class index; and for data that is none or empty.
    """
    if limit is not None and limit < 1:
        raise InputError(f"{limit} images for {what}: ask for at least 1")
    if isinstance(data, ImageSet):
        return data.take(stride(len(data), limit))
    if isinstance(data, str | Path):
        if shape is not None and len(shape) == 1:
            raise InputError(
                f"{what} data {data}: the model takes tokens; hand in a tensor [N, {shape[0]}] of whole numbers"
            )
        if preprocessing is None and shape is not None and str(data) == "random":
            preprocessing = _for_noise(shape)
        return open_images(data, preprocessing, limit, seed)
    wanted = shape or (preprocessing.input_shape if preprocessing is not None else None)
    kept = Collector(_describe(data), what, preprocessing, wanted)
    for image, label in _images(data, limit, what):
        kept.add(image, label)
        if len(kept) == limit:
            break
    return kept.finish()


def _for_noise(shape: tuple[int, ...]) -> Preprocessing:
    """Noise needs no model's mean and deviation: it lies around zero."""
    middle = (0.5,) * shape[0]
    return Preprocessing.model_validate({"image_size": shape[1:], "resize": shape[1:], "mean": middle, "std": middle})


def _images(data: Any, limit: int | None, what: What) -> Iterator[tuple[Any, Any]]:
    """(image, label or None), one by one."""
    if isinstance(data, Tensor) or _is_labelled_tensor(data):
        yield from _of_tensor(data, limit)
        return
    _warn_of_shuffling(data, what)
    for item in _items(data, limit, what):
        images, labels = _split(item, what)
        if not _is_batch(images):
            yield images, labels
            continue
        if labels is not None and (not hasattr(labels, "__len__") or len(labels) != len(images)):
            labels = None  # what belongs to the batch as a whole is no label of an image
        yield from ((image, None if labels is None else labels[row]) for row, image in enumerate(images))


def _of_tensor(data: Any, limit: int | None) -> Iterator[tuple[Any, Any]]:
    images, labels = (data, None) if isinstance(data, Tensor) else data
    if not _is_batch(images):
        images = images[None]
    for row in stride(len(images), limit):
        yield images[row], None if labels is None else labels[row]


def _items(data: Any, limit: int | None, what: What) -> Iterator[Any]:
    """The items in order; of single images that can be had by their number, evenly strided ones."""
    if not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise InputError(f"{what} data is {type(data).__name__}; hand in {_FORMS}")
    if isinstance(data, Mapping):
        yield data
        return
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        yield from data
        return
    if len(data) == 0:
        return
    first = data[0]
    rows = range(len(data)) if _is_batch(_split(first, what)[0]) else stride(len(data), limit)
    yield from (first if row == 0 else data[row] for row in rows)


def _split(item: Any, what: What) -> tuple[Any, Any]:
    """The image or images of an item, and the label or labels where it has some."""
    if isinstance(item, Mapping):
        return _split_mapping(cast(Mapping[str, Any], item), what)
    if not isinstance(item, tuple | list):
        return item, None
    parts = cast(Sequence[Any], item)
    if len(parts) not in (1, 2):
        raise InputError(f"{what} data: an item has {len(parts)} parts; hand in images, or (images, labels)")
    return parts[0], parts[1] if len(parts) == 2 else None


def _split_mapping(item: Mapping[str, Any], what: What) -> tuple[Any, Any]:
    image = next((key for key in _IMAGES if key in item), None)
    if image is None:
        raise InputError(f"{what} data: an item has the keys {', '.join(map(str, item))}, but no pixel_values")
    return item[image], next((item[key] for key in _LABELS if key in item), None)


def _is_batch(images: Any) -> bool:
    return len(getattr(images, "shape", ())) == 4 or is_tokens(images, rank=2)


def _is_labelled_tensor(data: Any) -> bool:
    """Is it (images [N, C, H, W] or tokens [N, L], labels [N])?"""
    if not isinstance(data, tuple | list):
        return False
    parts = cast(Sequence[Any], data)
    if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
        return False
    images, labels = parts
    return bool(_is_batch(images) and labels.dim() == 1 and len(labels) == len(images))


def _warn_of_shuffling(data: Any, what: What) -> None:
    if isinstance(getattr(data, "sampler", None), torch.utils.data.RandomSampler):
        _log.warning(
            "the DataLoader for %s shuffles: another run may take other images and give other numbers; "
            "make it with shuffle=False, or seed its generator",
            what,
        )


def _describe(data: Any) -> str:
    """What the data is, for messages and the report."""
    if isinstance(data, Tensor):
        return f"tensor {list(data.shape)}"
    inner = getattr(data, "dataset", None)
    return type(data).__name__ if inner is None else f"{type(data).__name__} of {type(inner).__name__}"
