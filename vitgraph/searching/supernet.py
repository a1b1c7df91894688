"""A supernet: one model whose linears can each be run at any of their N:M levels, all from the same weights.

Whenever a choice is run, each weight is multiplied by its mask: of each M neighbours along K the N largest magnitudes,
chosen anew from the weights as they are. The backward pass is autograd's own, so a weight that is masked gets no
gradient in that step (no straight-through estimate, no decay of its own): ELSA, arXiv 2409.09708. The model itself is run, not
a captured graph, so that it trains as its authors made it train (drop path and all) under its own names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vitgraph.ir.packing import Packing
from vitgraph.searching.levels import Choice, Space

Keep = Callable[[Tensor, Packing], Tensor]
"""Which weights stay, by their scores `[out, K]` and a pattern: bool, of the same shape."""


class Supernet(nn.Module):
    """A model with levels; `forward` runs one choice."""

    def __init__(self, module: nn.Module, space: Space, keep: Keep) -> None:
        super().__init__()
        self.module, self.space, self.keep = module, space, keep

    def forward(self, images: Tensor, choice: Choice) -> Tensor:
        """Logits `[batch, classes]` of the sub-network that `choice` names, with a gradient to the shared weights."""
        return self.run(images, self.masked(choice))

    def masked(self, choice: Choice) -> dict[str, Tensor]:
        """The weights of a sub-network by name; a dense layer's is left out."""
        chosen = zip(self.space.layers, self.space.patterns(choice), strict=True)
        return {layer.weight: self.at(layer.weight, level) for layer, level in chosen if level.n < level.m}

    def at(self, name: str, level: Packing) -> Tensor:
        """One weight at one level."""
        weight = self.module.get_parameter(name)
        return weight * self.keep(weight.detach().abs(), level)

    def run(self, images: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Logits with these weights in place of the model's."""
        logits: Tensor = functional_call(self.module, dict(weights), (images,))
        return logits


class Frozen:
    """A supernet that is no longer trained: each weight is masked once at each level, and kept."""

    def __init__(self, supernet: Supernet) -> None:
        self.supernet = supernet
        self.held = dict[tuple[str, Packing], Tensor]()

    @torch.no_grad()
    def logits(self, images: Tensor, choice: Choice) -> Tensor:
        """Logits `[batch, classes]` of a sub-network, in eval mode."""
        layers = self.supernet.space.layers
        weights = dict[str, Tensor]()
        for layer, level in zip(layers, self.supernet.space.patterns(choice), strict=True):
            if level.n < level.m:
                key = (layer.weight, level)
                if key not in self.held:
                    self.held[key] = self.supernet.at(layer.weight, level)
                weights[layer.weight] = self.held[key]
        was_training = self.supernet.training
        self.supernet.eval()
        try:
            return self.supernet.run(images, weights)
        finally:
            self.supernet.train(was_training)
