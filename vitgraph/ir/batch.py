"""Batch sizes of an engine, as they are written on the command line: `8`, or `1:8:64`."""

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


def parse_batch(text: str) -> Batch:
    """Read `8` or `1:8:64`; `InputError` for anything else."""
    parts = text.split(":")
    if len(parts) in (1, 3) and all(part.isdecimal() for part in parts):
        sizes = [int(part) for part in parts]
        least, best, most = sizes if len(sizes) == 3 else sizes * 3
        if 0 < least <= best <= most:
            return Batch(least, best, most)
    raise InputError(f"--batch {text}: write one size (8), or MIN:OPT:MAX in growing order (1:8:64)")


ONE_IMAGE = Batch(1, 1, 1)
