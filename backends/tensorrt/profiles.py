"""Optimization profiles: which batch sizes an engine takes, and how a batch of another size is run in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitgraph.errors import InputError


@dataclass(frozen=True)
class Profile:
    """The batch sizes of one profile; of an engine with a fixed batch all three are that."""

    index: int
    least: int
    best: int
    most: int

    def takes(self, size: int) -> bool:
        """Whether a batch of this size is within it."""
        return self.least <= size <= self.most

    def __str__(self) -> str:
        return f"{self.least}:{self.best}:{self.most}"


def read_profiles(engine: Any, name: str) -> tuple[Profile, ...]:
    """The profiles of the input called `name`, whose first dimension is the batch."""
    shape = tuple(engine.get_tensor_shape(name))
    if shape[0] != -1:
        return (Profile(0, shape[0], shape[0], shape[0]),)
    found = list[Profile]()
    for index in range(engine.num_optimization_profiles):
        least, best, most = (next(iter(each)) for each in engine.get_tensor_profile_shape(name, index))
        found.append(Profile(index, least, best, most))
    return tuple(found)


def choose_profile(size: int, profiles: Sequence[Profile]) -> Profile | None:
    """The profile that is optimized for the size nearest to this one; None where none takes it."""
    able = [profile for profile in profiles if profile.takes(size)]
    return min(able, key=lambda profile: (abs(profile.best - size), profile.index), default=None)


def split_batch(size: int, profiles: Sequence[Profile], name: str) -> list[tuple[int, Profile]]:
    """The sizes in which a batch is run, one after the other, as even as can be, each with its profile.

    `InputError` where the batch is smaller than every profile's least, or falls into pieces that no profile takes.

    >>> [piece for piece, _ in split_batch(10, [Profile(0, 1, 4, 8)], "m")]
    [5, 5]
    """
    most = max(profile.most for profile in profiles)
    count = -(-size // most)
    sizes = [size // count + (turn < size % count) for turn in range(count)]
    pieces = [(each, choose_profile(each, profiles)) for each in sizes]
    found = [(each, profile) for each, profile in pieces if profile is not None]
    if len(found) < len(pieces):
        ranges = ", ".join(f"{profile.least} to {profile.most}" for profile in profiles)
        parts = "" if count == 1 else f" ({count} pieces of about {sizes[0]})"
        raise InputError(f"{name}: takes batches of {ranges}, not {size}{parts}; compile with --batch 1:{size}:{size}")
    return found
