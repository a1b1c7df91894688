"""Batch sizes of a command line, with commas between."""

from __future__ import annotations

from vitgraph.domains import BatchSize, hold, plain_number, shortened
from vitgraph.errors import InputError


def read_batch_sizes(text: str) -> list[int]:
    """`1,32,128`, each size once; `InputError` for anything else."""
    sizes = [plain_number(part) for part in text.split(",")]
    if not all(sizes):
        raise InputError(f"--batch {shortened(text)}: write sizes with commas between, such as 1,32,128")
    return list(dict.fromkeys(hold("--batch", BatchSize, size) for size in sizes))
