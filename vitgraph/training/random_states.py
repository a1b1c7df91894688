"""Generators that depend on a seed, a purpose and a number alone; and the global ones of random, numpy and torch, for libraries that use
those (timm, torchvision).

    with kept_generators():
        seed_generators(seed, "variation", position)
        pixels = transform(picture)

Saving and restoring costs as much as a small image, so one `with` goes around a batch; seeding costs a few microseconds.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy
import torch


@contextmanager
def kept_generators() -> Generator[None]:
    """Leave the global generators (torch's: that of the CPU) as they were, whatever the block does with them."""
    python, array, tensor = random.getstate(), numpy.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        numpy.random.set_state(array)
        torch.default_generator.set_state(tensor)


def seed_generators(seed: int, purpose: str, number: int) -> None:
    """Set them to what depends on these alone. (`torch.manual_seed` looks for GPUs as well, 0.2 ms each time.)"""
    drawn = seeded(seed, purpose, number).initial_seed()
    random.seed(drawn)
    numpy.random.seed(drawn)
    torch.default_generator.manual_seed(drawn)


def seeded(seed: int, purpose: str, number: int = 0) -> torch.Generator:
    """A generator of its own for each purpose and number (hashed: torch's takes the low 32 bits of a seed only)."""
    digest = hashlib.sha256(f"{seed} {purpose} {number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
