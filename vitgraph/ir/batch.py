"""Batch sizes of an engine: one, or a range; as they are written on the command line (`8`, `1:8:64`) and in Python."""

from __future__ import annotations

from dataclasses import dataclass

from vitgraph.domains import MOST_AT_ONCE, plain_number, shortened
from vitgraph.errors import InputError

_LIMIT = f", each at most {MOST_AT_ONCE:,}"


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


ANY_BATCH = Batch(1, 2, 65536)
"""What a program is captured for unless told otherwise: loaders and evaluations end with a smaller batch."""

BatchSizes = int | str | tuple[int, int, int] | Batch
"""How Python code says them: `8`, `"1:8:64"` or `(1, 8, 64)`."""


def read_batch(sizes: BatchSizes) -> Batch:
    """Batch sizes as anyone writes them; `InputError` for anything else."""
    if isinstance(sizes, str):
        return parse_batch(sizes)
    given: object = (sizes.least, sizes.best, sizes.most) if isinstance(sizes, Batch) else sizes
    parts = given if isinstance(given, tuple) else (given, given, given)  # pyright: ignore[reportUnknownVariableType]
    found = _in_order(parts)  # pyright: ignore[reportUnknownArgumentType]
    if found is None:
        raise InputError(
            f"batch={shortened(given)}: give one size (8), or three in growing order: (1, 8, 64) or '1:8:64'{_LIMIT}"
        )
    return found


def parse_batch(text: str) -> Batch:
    """Read `8` or `1:8:64`; `InputError` for anything else."""
    sizes = tuple(plain_number(part) for part in text.split(":"))
    found = _in_order(sizes if len(sizes) == 3 else sizes * 3)
    if found is None:
        raise InputError(
            f"--batch {shortened(text)}: write one size (8), or MIN:OPT:MAX in growing order (1:8:64){_LIMIT}"
        )
    return found


def _in_order(parts: tuple[object, ...]) -> Batch | None:
    """Three whole numbers from 1 to `MOST_AT_ONCE` that do not fall, as a batch."""
    sizes = [part for part in parts if isinstance(part, int) and not isinstance(part, bool)]
    return (
        Batch(*sizes)
        if len(sizes) == len(parts) == 3 and 0 < sizes[0] <= sizes[1] <= sizes[2] <= MOST_AT_ONCE
        else None
    )


ONE_IMAGE = Batch(1, 1, 1)
