"""Which images of a step each batch takes, on each process: together always the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vitgraph.training.random_states import seeded


@dataclass(frozen=True)
class Division:
    """A step's images, divided by the processes and the batches whose gradients each adds up."""

    batch_size: int
    """Images a process takes at once."""
    grad_accum_steps: int = 1
    """Batches of a process in a step."""
    rank: int = 0
    count: int = 1
    """Of processes."""

    @property
    def step_images(self) -> int:
        """Images of a step, over all processes."""
        return self.batch_size * self.grad_accum_steps * self.count

    def positions(self, step: int, batch: int) -> Sequence[int]:
        """Where in the sequence of training images those of this process's batch are: a stretch of it."""
        first = step * self.step_images + self._place(batch)
        return range(first, first + self.batch_size)

    def paired_positions(self, step: int, batch: int, seed: int) -> Sequence[int]:
        """The same for batches of even size whose first image is mixed with the last, and so on inward.

        Pairs are drawn from the whole step, and stay pairs however it is divided.
        """
        drawn = torch.randperm(self.step_images, generator=seeded(seed, "pairs", step))
        mine = drawn[self._place(batch) :][: self.batch_size] + step * self.step_images
        return [int(position) for position in torch.cat([mine[::2], mine[1::2].flip(0)])]

    def _place(self, batch: int) -> int:
        return (batch * self.count + self.rank) * self.batch_size
