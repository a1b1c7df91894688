"""Which sub-network a supernet trains next: ELSA's policy (Huang et al., arXiv 2409.09708, and the authors' code).

Each layer keeps a fitness for each level: the mean accuracy of the sub-networks judged with it, before there are any
1000·N/M, which prefers dense. A sub-network is drawn layer by layer, a level with weight

    (M/N)^ε · fitness · open

ε goes from -1 (leans to dense) to +1 (leans to sparse) while training goes on. Now and then a number of sub-networks are
drawn and judged; a level that was in at least five and does clearly worse than the average is closed from then on. The code
tells neither what becomes of a first fitness once there is a mean (here the mean alone counts) nor what is left where
every level of a layer is under the threshold (here the densest).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitgraph.levels import Choice, Space

ENDS = 10 / 300
"""Of the training, the share at either end in which ε stands still: 10 epochs of the authors' 300."""
VISITS = 5
"""In so many judged sub-networks a level must have been before it may be closed."""


def lean(done: float) -> float:
    """ε where `done`, 0 to 1, of the training is done."""
    return max(-1.0, min(1.0, 2 * (done - ENDS) / (1 - 2 * ENDS) - 1))


def threshold(accuracies: Sequence[float]) -> float:
    """The accuracy in percent under which a level is closed, from those of the sub-networks that were just judged."""
    average, best = sum(accuracies) / len(accuracies), max(accuracies)
    if average > 20 and best - average >= 20:
        return average - 20
    return average - (best - average) if best - average >= 5 else average - 2.5


class Policy:
    """The fitness of every level, and which are open; all `[layers, levels]`, where a level that a layer lacks is closed."""

    def __init__(self, space: Space) -> None:
        most = max(len(layer.levels) for layer in space.layers)
        kept = [[each.kept for each in layer.levels] for layer in space.layers]
        self.kept = torch.tensor([row + [1.0] * (most - len(row)) for row in kept], dtype=torch.float64)
        self.open = torch.tensor([[place < len(row) for place in range(most)] for row in kept])
        self.sums = torch.zeros_like(self.kept)
        self.visits = torch.zeros_like(self.kept)
        self.last = torch.tensor([len(row) - 1 for row in kept])

    def weights(self, epsilon: float) -> Tensor:
        """The weight of each level, `[layers, levels]`; those of a layer need not sum to one."""
        means = self.sums / self.visits.clamp(min=1)
        fitness = torch.where(self.visits > 0, means.clamp(min=1e-6), 1000 * self.kept)
        return self.kept**-epsilon * fitness * self.open

    def draw(self, epsilon: float, generator: torch.Generator) -> Choice:
        """A level for each layer, by the weights."""
        return tuple(int(place) for place in torch.multinomial(self.weights(epsilon), 1, generator=generator))

    def learn(self, choices: Sequence[Choice], accuracies: Sequence[float]) -> None:
        """Take over the accuracies, in percent, of judged sub-networks, and close levels that do worse than the threshold."""
        rows = torch.arange(len(self.kept))
        for choice, accuracy in zip(choices, accuracies, strict=True):
            places = torch.tensor(choice)
            self.sums[rows, places] += accuracy
            self.visits[rows, places] += 1
        worse = self.sums / self.visits.clamp(min=1) < threshold(accuracies)
        self.open &= ~(worse & (self.visits >= VISITS))
        shut = ~self.open.any(1)
        self.open[rows[shut], self.last[shut]] = True

    def state(self) -> dict[str, Tensor]:
        """What it has learned, as tensors."""
        return {"policy.sums": self.sums, "policy.visits": self.visits, "policy.open": self.open}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.sums, self.visits, self.open = (state[f"policy.{name}"].clone() for name in ("sums", "visits", "open"))
