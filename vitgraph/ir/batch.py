"""Batch sizes of an engine: one, or a range; as they are written on the command line (`8`, `1:8:64`) and in Python."""

from __future__ import annotations

from dataclasses import dataclass

from vitgraph.errors import InputError


@dataclass(frozen=True)
class Batch:
    """Batch sizes of the engine: one, or a range with the size to optimize for."""

    least: int
    best: int
    most: int

    @property
    def dynamic(self) -> bool:
        """Whether the batch is an unknown of the graph."""
        return self.least != self.most

    def __str__(self) -> str:
        return f"{self.least}:{self.best}:{self.most}" if self.dynamic else str(self.best)


BatchSizes = int | str | tuple[int, int, int] | Batch
"""How Python code says them: `8`, `"1:8:64"` or `(1, 8, 64)`."""


def read_batch(sizes: BatchSizes) -> Batch:
    """Batch sizes as anyone writes them; `InputError` for anything else."""
    if isinstance(sizes, Batch):
        return sizes
    if isinstance(sizes, str):
        return parse_batch(sizes)
    given: object = sizes  # what a caller without a type checker may have written
    parts = given if isinstance(given, tuple) else (given, given, given)  # pyright: ignore[reportUnknownVariableType]
    found = _in_order(parts)  # pyright: ignore[reportUnknownArgumentType]
    if found is None:
        raise InputError(f"batch={given!r}: give one size (8), or three in growing order: (1, 8, 64) or '1:8:64'")
    return found


def parse_batch(text: str) -> Batch:
    """Read `8` or `1:8:64`; `InputError` for anything else."""
    parts = text.split(":")
    if len(parts) in (1, 3) and all(part.isdecimal() for part in parts):
        sizes = tuple(int(part) for part in parts)
        found = _in_order(sizes if len(sizes) == 3 else sizes * 3)
        if found is not None:
            return found
    raise InputError(f"--batch {text}: write one size (8), or MIN:OPT:MAX in growing order (1:8:64)")


def _in_order(parts: tuple[object, ...]) -> Batch | None:
    """Three whole numbers from 1 up that do not fall, as a batch."""
    sizes = [part for part in parts if isinstance(part, int) and not isinstance(part, bool)]
    return Batch(*sizes) if len(sizes) == len(parts) == 3 and 0 < sizes[0] <= sizes[1] <= sizes[2] else None


ONE_IMAGE = Batch(1, 1, 1)
