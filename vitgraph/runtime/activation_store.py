"""The values of many images at one place of a program: in memory while they are few bytes, else in a file.

The residual stream of 512 images in DeiT-Base is 310 MB, and refitting holds it twice. In a file it costs no memory that
counts: what is read and written goes through the system's cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from vitgraph.outputs.scratch import in_temporary_folder, scratch_file

ROOM = 1 << 24
"""Bytes that are held in memory."""


class ActivationStore:
    """`[units, …]` in float32: read by position, written in chunks."""

    def __init__(self, count: int, shape: Sequence[int], room: int = ROOM) -> None:
        """Room for `count` values of this shape, not yet written."""
        self.count, self.shape = count, tuple(shape)
        self._bytes = 4 * prod(self.shape)
        self._memory = torch.empty(count, *self.shape) if count * self._bytes <= room else None
        self._file = scratch_file() if self._memory is None else None

    @staticmethod
    def of(values: Tensor, room: int = ROOM) -> ActivationStore:
        """These values."""
        units = ActivationStore(len(values), values.shape[1:], room)
        units.write(0, values)
        return units

    def __len__(self) -> int:
        return self.count

    def read(self, positions: Sequence[int] | range) -> Tensor:
        """The values at these positions, `[positions, …]`, in memory of their own where they come from a file."""
        if self._memory is not None:
            return self._memory[torch.as_tensor(positions, dtype=torch.long)]
        assert self._file is not None
        data = bytearray().join(os.pread(self._file.fileno(), self._bytes, at * self._bytes) for at in positions)
        return torch.frombuffer(data, dtype=torch.float32).reshape(-1, *self.shape)

    def write(self, at: int, values: Tensor) -> None:
        """Put values at position `at` and those after it. Raises `InputError` where the disk is full."""
        if self._memory is not None:
            self._memory[at : at + len(values)] = values
            return
        assert self._file is not None
        plain: Any = values.detach().float().contiguous().numpy()
        data = memoryview(plain).cast("B")
        done = 0
        with in_temporary_folder():
            while done < len(data):
                done += os.pwrite(self._file.fileno(), data[done:], at * self._bytes + done)

    def chunks(self, size: int) -> Iterator[Tensor]:
        """All values in order, so many at a time."""
        for start in range(0, self.count, size):
            yield self.read(range(start, min(start + size, self.count)))
