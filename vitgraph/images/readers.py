"""What an image set reads its images with: files, seeded noise, the embedded digits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeAlias

import torch
from PIL.Image import Image, frombytes
from torch import Tensor

from vitgraph.images.image_files import Files, MemoryFiles, decode
from vitgraph.images.pixel_modes import to_8_bits
from vitgraph.images.preprocess import Preprocessing

Picture: TypeAlias = Image | Tensor
"""An image before its pre-processing: of Pillow, `L` or `RGB` as the model sees; a normalized tensor [C, H, W] where it has none."""


class Reader(Protocol):
    """Images by name."""

    def tensor(self, name: str) -> Tensor:
        """One normalized image [C, H, W]."""
        ...

    def picture(self, name: str) -> Picture:
        """The same before its pre-processing."""
        ...

    def content(self, name: str) -> bytes:
        """The bytes that define it, for the hash."""
        ...

    def in_memory(self, names: Sequence[str]) -> Reader:
        """A reader of these images that opens no file again; another process may have it."""
        ...


@dataclass(frozen=True)
class FileReader:
    """Images that are files."""

    files: Files
    preprocessing: Preprocessing

    def tensor(self, name: str) -> Tensor:
        """Decode and pre-process one file."""
        return self.preprocessing.apply(decode(self.files.read(name), name, self.files.source))

    def picture(self, name: str) -> Image:
        """Decode one file."""
        return to_8_bits(decode(self.files.read(name), name, self.files.source), self.preprocessing.mode)

    def content(self, name: str) -> bytes:
        """The file as it is."""
        return self.files.read(name)

    def in_memory(self, names: Sequence[str]) -> FileReader:
        """The files as they are, not decoded."""
        held = {name: self.files.read(name) for name in names}
        return replace(self, files=MemoryFiles(self.files.source, held))


@dataclass(frozen=True)
class NoiseReader:
    """Noise, each image from its own seed, so that neither batch size nor order matters."""

    seed: int
    preprocessing: Preprocessing

    def tensor(self, name: str) -> Tensor:
        """Pixels uniform in [0, 1], normalized."""
        generator = torch.Generator().manual_seed(int(hashlib.sha256(self.content(name)).hexdigest()[:15], 16))
        return self.preprocessing.normalize(torch.rand(self.preprocessing.input_shape, generator=generator))

    def picture(self, name: str) -> Tensor:
        """The same: noise has no other form."""
        return self.tensor(name)

    def content(self, name: str) -> bytes:
        """What the image is drawn from."""
        return f"noise {self.seed} {name}".encode()

    def in_memory(self, names: Sequence[str]) -> Self:
        """It reads no file."""
        return self


@dataclass(frozen=True)
class DigitsReader:
    """The embedded digits, by row."""

    images: Tensor
    preprocessing: Preprocessing

    def tensor(self, name: str) -> Tensor:
        """Pre-process one digit."""
        return self.preprocessing.apply(self._digit(name))

    def picture(self, name: str) -> Image:
        """One digit."""
        return to_8_bits(self._digit(name), self.preprocessing.mode)

    def content(self, name: str) -> bytes:
        """Its 64 pixels."""
        return self.images[int(name)].numpy().tobytes()

    def in_memory(self, names: Sequence[str]) -> Self:
        """They are in memory already."""
        return self

    def _digit(self, name: str) -> Image:
        return frombytes("L", (8, 8), self.content(name))
