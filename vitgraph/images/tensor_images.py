"""Images that Python code hands in, or tokens of a text, checked one by one and kept in a file: they are read more than once.

A data loader may shuffle or augment, and a generator runs once, while calibration goes over its images several times and
has to see the same. So each image is taken once and kept as float32 in a temporary file (600 kB for one of 224x224); a
file costs no memory that counts, since what is read and written goes through the system's cache. Tokens are whole numbers [L], kept
as int64.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from numbers import Integral
from typing import Any, Literal, Self

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.images.image_set import ImageSet
from vitgraph.images.pixel_modes import refusal
from vitgraph.images.preprocess import Preprocessing
from vitgraph.outputs.scratch import in_temporary_folder, scratch_file

What = Literal["calibration", "evaluation"]
"""What the images are for: accuracy needs a label of each, calibration looks at none."""


class ImageFile:
    """Tensors of one shape in a temporary file, by number; it is gone with the last reference."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self._bytes = dtype.itemsize * prod(shape)
        self._file = scratch_file()

    def append(self, image: Tensor) -> None:
        """Put one more. Raises `InputError` where the disk is full."""
        plain: Any = image.detach().contiguous().numpy()
        with in_temporary_folder():
            self._file.write(memoryview(plain).cast("B"))
            self._file.flush()

    def content(self, name: str) -> bytes:
        """The bytes of an image, named by its number."""
        return os.pread(self._file.fileno(), self._bytes, int(name) * self._bytes)

    def tensor(self, name: str) -> Tensor:
        """One image [C, H, W] in float32, or tokens [L], as it came."""
        return _from_bytes(self.content(name), self.shape, self.dtype)

    def picture(self, name: str) -> Tensor:
        """The same: it came pre-processed."""
        return self.tensor(name)

    def in_memory(self, names: Sequence[str]) -> MemoryImages:
        """These images without the file."""
        return MemoryImages(self.shape, self.dtype, {name: self.content(name) for name in names})


@dataclass(frozen=True)
class MemoryImages:
    """Tensors of one shape in memory, by number."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    contents: Mapping[str, bytes] = field(repr=False)

    def content(self, name: str) -> bytes:
        """The bytes of an image, named by its number."""
        return self.contents[name]

    def tensor(self, name: str) -> Tensor:
        """One image [C, H, W] in float32, or tokens [L], as it came."""
        return _from_bytes(self.contents[name], self.shape, self.dtype)

    def picture(self, name: str) -> Tensor:
        """The same: it came pre-processed."""
        return self.tensor(name)

    def in_memory(self, names: Sequence[str]) -> Self:
        """They are in memory already."""
        return self


@dataclass
class Collector:
    """Takes images one by one, and says which does not fit."""

    source: str
    what: What
    preprocessing: Preprocessing | None
    """Normalizes pixels that come as whole numbers; floats are taken as they are."""
    shape: tuple[int, ...] | None
    """[C, H, W] or [L] that the model takes; None: that of the first image."""
    labels: list[int | None] = field(default_factory=list[int | None])
    _file: ImageFile | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, image: Any, label: Any) -> None:
        """Check and keep one image [C, H, W] (or one of PIL) with its label; `InputError` names its number and the fault."""
        tensor = self._normalized(image)
        if self.shape is None:
            self.shape = tuple(tensor.shape)
        if tuple(tensor.shape) != tuple(self.shape):
            raise self._fault(
                f"is {list(tensor.shape)}, where {list(self.shape)} is wanted; resize it before you hand it in"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise self._fault("holds NaN or infinity; leave it out, or mend what makes it")
        self._file = self._file or ImageFile(tuple(tensor.shape), tensor.dtype)
        self._file.append(tensor)
        self.labels.append(self._class(label))

    def finish(self) -> ImageSet:
        """The images in the order they came; labels where every image has one. Raises `InputError` if there is none."""
        if self._file is None:
            raise InputError(f"{self.what} data ({self.source}): holds no image; hand in at least one")
        known = tuple(label for label in self.labels if label is not None)
        return ImageSet(
            source=self.source,
            kind="tensors",
            preprocessing=self.preprocessing,
            names=tuple(map(str, range(len(self)))),
            labels=known if len(known) == len(self) else None,
            class_names={},
            classes=None,
            _reader=self._file,
        )

    def _normalized(self, image: Any) -> Tensor:
        """The image as float32 on the CPU: floats as they are, pixels of 0 to 255 and PIL's as the model wants them; tokens as int64."""
        if hasattr(image, "convert") and hasattr(image, "tobytes"):
            if why := refusal(image):
                raise self._fault(why)
            return self._known_preprocessing("an image of PIL").apply(image)
        try:
            tensor = torch.as_tensor(image).detach().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._fault(f"is {type(image).__name__}, where a tensor [C, H, W] is wanted") from error
        if is_tokens(tensor) and (self.shape is None or len(self.shape) == 1):
            return tensor.long()
        if tensor.dim() != 3:
            raise self._fault(f"has shape {list(tensor.shape)}, where [C, H, W] or a batch [B, C, H, W] is wanted")
        if tensor.dtype == torch.uint8:
            return self._known_preprocessing("uint8 pixels").normalize(tensor.float() / 255)
        if not tensor.dtype.is_floating_point:
            raise self._fault(f"is of {tensor.dtype}; hand in normalized floats, or pixels as uint8")
        return tensor.float()

    def _known_preprocessing(self, kind: str) -> Preprocessing:
        if self.preprocessing is None:
            raise self._fault(
                f"is {kind}, and the model does not say how its images are normalized; hand in normalized floats, or "
                "give `preprocessing` with image_size, mean and std"
            )
        return self.preprocessing

    def _class(self, label: Any) -> int | None:
        """The label as a class index. Calibration looks at none, so what is no index counts as no label there."""
        index: Any = label.item() if isinstance(label, Tensor) and label.numel() == 1 else label
        if not isinstance(index, bool) and isinstance(index, Integral) and int(index) >= 0:
            return int(index)
        if self.what == "calibration":
            return None
        given = "has no label" if label is None else f"has the label {str(label)[:40]!r}"
        raise self._fault(f"{given}; accuracy needs (image, label) with the label a class index from 0")

    def _fault(self, why: str) -> InputError:
        return InputError(f"{self.what} data ({self.source}): image {len(self)} {why}")


def is_tokens(data: Any, rank: int = 1) -> bool:
    """Are these the tokens [L] of a text; with a rank of 2 a batch of them, [B, L]?"""
    return isinstance(data, Tensor) and data.dim() == rank and data.dtype in (torch.int64, torch.int32)


def _from_bytes(content: bytes, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape)
