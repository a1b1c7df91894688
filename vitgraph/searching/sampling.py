"""Which sub-network a supernet trains next: ELSA's policy (Huang et al., arXiv 2409.09708, and the authors' code).

Each layer keeps a fitness for each level: the mean accuracy of the sub-networks judged with it, before there are any
1000·N/M, which prefers dense. A sub-network is drawn layer by layer, a level with weight

    (M/N)^ε · fitness · open

ε goes from -1 (leans to dense) to +1 (leans to sparse) while training goes on. Now and then a number of sub-networks are
drawn and judged; a level that was in at least five and does clearly worse than the average is closed from then on.

Three things are other than in the code, or not told by it. Once there is a mean it alone is the fitness. A sub-network is held against the
average of its own round: the code holds a mean over all of training against the average of now, and so closes what was
judged while everything did worse. And dense is never closed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitgraph.searching.levels import Choice, Space

ENDS = 10 / 300
"""Of the training, the share at either end in which ε stands still: 10 epochs of the authors' 300."""
VISITS = 5
"""In so many judged sub-networks a level must have been before it may be closed."""


def lean(done: float) -> float:
    """ε where `done`, 0 to 1, of the training is done."""
    return max(-1.0, min(1.0, 2 * (done - ENDS) / (1 - 2 * ENDS) - 1))


def tolerance(accuracies: Sequence[float]) -> float:
    """How many points under the average a level is closed, from the sub-networks that were just judged."""
    average, best = sum(accuracies) / len(accuracies), max(accuracies)
    if average > 20 and best - average >= 20:
        return 20.0
    return best - average if best - average >= 5 else 2.5


class Policy:
    """The fitness of every level, and which are open; all `[layers, levels]`, where a level that a layer lacks is closed."""

    def __init__(self, space: Space) -> None:
        most = max(len(layer.levels) for layer in space.layers)
        kept = [[each.kept for each in layer.levels] for layer in space.layers]
        self.kept = torch.tensor([row + [1.0] * (most - len(row)) for row in kept], dtype=torch.float64)
        self.open = torch.tensor([[place < len(row) for place in range(most)] for row in kept])
        self.sums, self.gaps, self.visits = (torch.zeros_like(self.kept) for _ in range(3))
        self.dense = torch.tensor([[place == len(row) - 1 for place in range(most)] for row in kept])

    def weights(self, epsilon: float) -> Tensor:
        """The weight of each level, `[layers, levels]`; those of a layer need not sum to one."""
        means = self.sums / self.visits.clamp(min=1)
        fitness = torch.where(self.visits > 0, means.clamp(min=1e-6), 1000 * self.kept)
        return self.kept**-epsilon * fitness * self.open

    def draw(self, epsilon: float, generator: torch.Generator) -> Choice:
        """A level for each layer, by the weights."""
        return tuple(int(place) for place in torch.multinomial(self.weights(epsilon), 1, generator=generator))

    def learn(self, choices: Sequence[Choice], accuracies: Sequence[float]) -> None:
        """Take over the accuracies, in percent, of a round of judged sub-networks, and close levels that do clearly worse."""
        rows, average = torch.arange(len(self.kept)), sum(accuracies) / len(accuracies)
        for choice, accuracy in zip(choices, accuracies, strict=True):
            places = torch.tensor(choice)
            self.sums[rows, places] += accuracy
            self.gaps[rows, places] += accuracy - average
            self.visits[rows, places] += 1
        worse = self.gaps / self.visits.clamp(min=1) < -tolerance(accuracies)
        self.open &= ~(worse & (self.visits >= VISITS)) | self.dense

    def state(self) -> dict[str, Tensor]:
        """What it has learned, as tensors."""
        return {f"policy.{name}": getattr(self, name) for name in _LEARNED}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for name in _LEARNED:
            setattr(self, name, state[f"policy.{name}"].clone())


_LEARNED = ("sums", "gaps", "visits", "open")
