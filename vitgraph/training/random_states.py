"""The global generators of random, numpy and torch, lent to libraries that know no others (timm, torchvision).

    with kept_generators():
        seed_generators(seed, "variation", position)
        pixels = transform(picture)

Saving and restoring costs as much as a small image, so one `with` goes around a batch; seeding costs a few microseconds.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy
import torch

from vitgraph.training.distill import seeded


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
