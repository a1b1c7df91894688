"""Images to calibrate with and to measure on: found, checked, and decoded one batch at a time.

| source                         | what it is                                                                        |
|--------------------------------|-----------------------------------------------------------------------------------|
| a folder of folders            | one folder for each class, in sorted order; all names numbers: the numbers count   |
| a folder or `.zip`             | images with a `labels.csv` (`file,index,label`); without one, unlabelled images    |
| `random`                       | seeded noise, uniform over the pixels' range: for structure, never for accuracy    |
| `digits:train`, `digits:test`  | the embedded example's digits                                                      |

Order is that of `labels.csv`, otherwise sorted; a limit takes an evenly strided subset, which keeps classes spread.
Every image's header is read when a set is opened, so a bad file is found before any work is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.images.image_files import check_header, list_images, open_files
from vitgraph.images.preprocess import Preprocessing
from vitgraph.images.readers import DigitsReader, FileReader, NoiseReader, Picture, Reader

RANDOM_IMAGES = 32
"""How many images `random` holds where no limit says otherwise."""
NOISE = "random noise"
"""The kind of images that `random` makes."""


@dataclass(frozen=True)
class ImageSet:
    """Images in a fixed order, with labels where they are known. Nothing is decoded before it is asked for."""

    source: str
    kind: str
    """`class folders`, `labels.csv`, `unlabelled`, `random noise`, `digits` or `tensors`."""
    preprocessing: Preprocessing | None
    """None for tensors that were handed in normalized, nobody says how."""
    names: tuple[str, ...]
    labels: tuple[int, ...] | None
    class_names: dict[int, str]
    """Names of the classes that occur, by index; empty where none are known."""
    classes: int | None
    """How many classes the source has, where it counts them all (class folders in words, digits)."""
    _reader: Reader = field(repr=False)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.names)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield normalized images [B, C, H, W] in float32 and their labels [B]; the last batch may be smaller."""
        if size < 1:
            raise InputError(f"batch size {size}: it must be at least 1")
        for start in range(0, len(self), size):
            names = self.names[start : start + size]
            images = torch.stack([self._reader.tensor(name) for name in names])
            yield images, None if self.labels is None else torch.tensor(self.labels[start : start + size])

    def picture(self, row: int) -> Picture:
        """One image before its pre-processing: of Pillow, or a normalized tensor [C, H, W] where there is no other form."""
        return self._reader.picture(self.names[row])

    def in_memory(self) -> ImageSet:
        """The same images with their bytes, encoded as they came, in memory: none is read again, whichever process asks."""
        return replace(self, _reader=self._reader.in_memory(self.names))

    @property
    def image_shape(self) -> tuple[int, ...]:
        """[C, H, W] of one image."""
        pixels, _ = next(self.take([0]).batches(1))
        return tuple(pixels.shape[1:])

    @property
    def image_dtype(self) -> torch.dtype:
        """float32, or int64 of tokens."""
        pixels, _ = next(self.take([0]).batches(1))
        return pixels.dtype

    def take(self, rows: Sequence[int]) -> ImageSet:
        """The images of these rows, in their order."""
        labels = None if self.labels is None else tuple(self.labels[row] for row in rows)
        return replace(self, names=tuple(self.names[row] for row in rows), labels=labels)

    def without_labels(self) -> ImageSet:
        """The same images, of which no class is known."""
        return replace(self, labels=None, class_names={}, classes=None)

    def digests(self) -> list[bytes]:
        """SHA-256 of each image's content."""
        return [hashlib.sha256(self._reader.content(name)).digest() for name in self.names]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the pre-processing, and each image's name, label and content, in order."""
        digest = hashlib.sha256((self.preprocessing.to_json() if self.preprocessing else "").encode())
        for position, (name, content) in enumerate(zip(self.names, self.digests(), strict=True)):
            label = None if self.labels is None else self.labels[position]
            digest.update(f"\n{name}\0{label}\0".encode())
            digest.update(content)
        return digest.hexdigest()

    def check_labels(self, classes: int) -> None:
        """Raise InputError unless every image has a label and a model of `classes` classes can tell them apart."""
        if self.labels is None:
            raise InputError(
                f"images {self.source}: no labels ({self.kind}); accuracy needs a labels.csv (file,index,label) beside "
                "the images, or one folder for each class"
            )
        if self.kind == "class folders" and self.classes not in (None, classes):
            order = ", ".join(f"{name} would be {index}" for index, name in sorted(self.class_names.items())[:3])
            raise InputError(
                f"images {self.source}: {self.classes} class folders, but the model tells {classes} classes apart, so "
                f"which folder is which index is unknown (by their order {order}); name the folders as the model's "
                f"classes or 0 to {classes - 1}, or add a labels.csv (file,index,label)"
            )
        for name, label in zip(self.names, self.labels, strict=True):
            if label >= classes:
                raise InputError(
                    f"images {self.source}: {name} is of class {label}, but the model has classes 0 to {classes - 1}; "
                    "give the model these images were labelled for"
                )


def open_images(
    source: str | Path, preprocessing: Preprocessing | None, limit: int | None = None, seed: int = 0
) -> ImageSet:
    """Open a source of images (see the module's table), `limit` of them at most.

    Raises `InputError` where it is absent, empty or unreadable, or its labels.csv is at odds with its images; the
    message names the file. So it does where `preprocessing` is None, a model's that says nothing of its images. `seed` is
    for `random` alone.
    """
    if preprocessing is None:
        raise InputError(
            f"images {source}: it is not known how the model's images are pre-processed; give --mean and --std (and "
            "--image-size, --resize, --crop, --interpolation; in Python `preprocessing`), or hand in normalized tensors"
        )
    if limit is not None and limit < 1:
        raise InputError(f"{limit} images of {source}: ask for at least 1")
    text = str(source)
    if text == "random":
        return _open_random(preprocessing, limit or RANDOM_IMAGES, seed)
    if text in ("digits:train", "digits:test"):
        return _open_digits(text, preprocessing, limit)
    files = open_files(Path(source))
    listing = list_images(files)
    rows = stride(len(listing.names), limit)
    names = tuple(listing.names[row] for row in rows)
    for name in names:
        check_header(files.read(name), name, text)
    return ImageSet(
        source=text,
        kind=listing.kind,
        preprocessing=preprocessing,
        names=names,
        labels=None if listing.labels is None else tuple(listing.labels[row] for row in rows),
        class_names=listing.class_names,
        classes=listing.classes,
        _reader=FileReader(files, preprocessing),
    )


def stride(count: int, limit: int | None) -> list[int]:
    """Choose `limit` of `count` rows, evenly apart and in order; all of them where there are no more.

    >>> stride(10, 4)
    [0, 2, 5, 7]
    """
    if limit is None or limit >= count:
        return list(range(count))
    return [row * count // limit for row in range(limit)]


def _open_random(preprocessing: Preprocessing, count: int, seed: int) -> ImageSet:
    return ImageSet(
        source=f"random (seed {seed})",
        kind=NOISE,
        preprocessing=preprocessing,
        names=tuple(map(str, range(count))),
        labels=None,
        class_names={},
        classes=None,
        _reader=NoiseReader(seed, preprocessing),
    )


def _open_digits(source: str, preprocessing: Preprocessing, limit: int | None) -> ImageSet:
    from vitgraph.digits import CLASS_NAMES, load_images

    images, labels = load_images("train" if source == "digits:train" else "test")
    rows = stride(len(images), limit)
    return ImageSet(
        source=source,
        kind="digits",
        preprocessing=preprocessing,
        names=tuple(map(str, rows)),
        labels=tuple(int(labels[row]) for row in rows),
        class_names=dict(enumerate(CLASS_NAMES)),
        classes=len(CLASS_NAMES),
        _reader=DigitsReader(images, preprocessing),
    )
