"""What each level costs each layer alone: the divergence on held-out images with nothing masked but this one layer.

Layers of one size differ by orders of magnitude in it: of a model that was trained dense the first blocks bear few zeros, the last ones many. It is
measured once, of the model as it comes. What several layers cost together is more or less the sum: too rough to choose by, good enough
to draw by. ELSA's code has a greedy pool for that (several sub-networks are drawn, and the one with the least loss on an image a class
is trained); the sum asks for no images, and a supernet spends its steps where what will be chosen is to be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitgraph.searching.levels import Choice, Space


def lone(space: Space) -> list[Choice]:
    """For each level of each layer but dense the choice with nothing else masked, layer by layer."""
    dense = space.dense
    return [
        (*dense[:index], place, *dense[index + 1 :])
        for index, layer in enumerate(space.layers)
        for place in range(len(layer.levels) - 1)
    ]


@dataclass(frozen=True)
class LevelSensitivity:
    """The divergence of each level of each layer alone, `[layers, levels]`, in nats; 0 where dense."""

    alone: Tensor

    @classmethod
    def of(cls, space: Space, divergences: Sequence[float]) -> LevelSensitivity:
        """From the divergences of `lone` choices."""
        most = max(len(layer.levels) for layer in space.layers)
        alone = torch.zeros(len(space.layers), most, dtype=torch.float64)
        for choice, divergence in zip(lone(space), divergences, strict=True):
            layer = next(index for index, place in enumerate(choice) if place != space.dense[index])
            alone[layer, choice[layer]] = divergence
        return cls(alone)

    def expected(self, choice: Choice) -> float:
        """The sum over layers: what ranks choices."""
        return float(self.alone[torch.arange(len(choice)), torch.tensor(choice)].sum())
