"""One endless sequence of training images from several sources, with or without shares.

Without shares an epoch is a permutation of all images of all sources. With shares the sources take turns, and each goes through
permutations of its own: however few images it has, it gets its share.

Where a position of the sequence leads depends on the position and the seed alone: every process finds the same, and training
that was stopped goes on where it was.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import torch
from torch import Tensor

from vitgraph.domains import Share, hold
from vitgraph.errors import InputError
from vitgraph.images.image_set import ImageSet
from vitgraph.training.random_states import seeded


@dataclass(frozen=True)
class Source:
    """Images to train with."""

    images: ImageSet
    labelled: bool
    """Whether their labels are learned from."""
    share: float | None = None
    """Of the sequence, in proportion to the other sources' shares; all sources have one, or none has."""


class Mixture:
    """All sources as one sequence."""

    def __init__(self, sources: Sequence[Source], seed: int, epoch_images: int | None = None) -> None:
        """Raise `InputError` for no source, for shares of some only, and for images of different shapes."""
        if not sources:
            raise InputError("no images to train with; name a folder, a zip or digits:train")
        self.sources = tuple(sources)
        self._turns = _turns(self.sources)
        _check_shapes(self.sources)
        sizes = [len(source.images) for source in self.sources]
        self.epoch_images = epoch_images or sum(sizes)
        """How many images an epoch has: as many as all sources together, unless it is said."""
        self._ends = list(accumulate(sizes))
        self._all = Reshuffled(sum(sizes), seed, "order")
        self._each = [Reshuffled(size, seed, f"order of source {place}") for place, size in enumerate(sizes)]

    def pick(self, position: int) -> tuple[int, int]:
        """The source at a position of the sequence, from 0, and the row in it."""
        if self._turns is not None:
            source, place = turn(self._turns, position)
            return source, self._each[source].row(place)
        row = self._all.row(position)
        source = bisect_right(self._ends, row)
        return source, row - (self._ends[source - 1] if source else 0)


class Reshuffled:
    """The rows 0 to `size` - 1 in a random order, then in another one, without end."""

    def __init__(self, size: int, seed: int, purpose: str) -> None:
        self.size, self.seed, self.purpose = size, seed, purpose
        self._orders = dict[int, Tensor]()

    def row(self, place: int) -> int:
        """The row at a place of the sequence, from 0."""
        cycle, within = divmod(place, self.size)
        if cycle not in self._orders:
            self._orders = {at: order for at, order in self._orders.items() if abs(at - cycle) == 1}
            self._orders[cycle] = torch.randperm(self.size, generator=seeded(self.seed, self.purpose, cycle))
        return int(self._orders[cycle][within])


def turn(shares: Sequence[Fraction], position: int) -> tuple[int, int]:
    """The source whose turn it is at a position, and how many turns it had before.

    Each share is of what the sources before leave; the last is 1. Of any stretch of the sequence the first source has its part
    to within one image, the next to within two, and so on.

    >>> [turn([Fraction(1, 3), Fraction(1)], position) for position in range(6)]
    [(1, 0), (1, 1), (0, 0), (1, 2), (1, 3), (0, 1)]
    """
    for source, share in enumerate(shares):
        had = position * share.numerator // share.denominator
        if (position + 1) * share.numerator // share.denominator > had:
            return source, had
        position -= had
    raise ValueError(f"the last of {len(shares)} shares is not 1")


def _turns(sources: Sequence[Source]) -> list[Fraction] | None:
    """For each source its share of what the ones before leave; None without shares."""
    given = [source.share for source in sources if source.share is not None]
    if not given:
        return None
    if len(given) < len(sources):
        bare = next(source.images.source for source in sources if source.share is None)
        raise InputError(f"images {bare}: it has no share, and others have; give every source one, or none")
    exact = [Fraction(hold("share", Share, share)) for share in given]
    return [share / sum(exact[place:]) for place, share in enumerate(exact)]


def _check_shapes(sources: Sequence[Source]) -> None:
    first = sources[0].images
    for other in (source.images for source in sources[1:]):
        if other.image_shape != first.image_shape:
            raise InputError(
                f"images {other.source}: {list(other.image_shape)}, but {first.source} has {list(first.image_shape)}; "
                "bring all to the shape that the model takes"
            )
