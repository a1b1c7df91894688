"""A model of the coverage table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Model:
    """How a small model is made, and what it takes."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 64, 64)
    """Of one image."""


class Outputs(nn.Module):
    """A model of transformers that takes an image by its name and gives every tensor of its output, or these ones."""

    def __init__(self, model: nn.Module, *names: str) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images `[B, 3, H, W]`."""
        found: Any = self.model(pixel_values=x)
        values = [found[name] for name in self.names or found]
        return tuple(value for value in values if isinstance(value, Tensor))


def configured(name: str, **sizes: Any) -> Any:
    """The configuration of a model of transformers."""
    return getattr(import_module("transformers"), f"{name}Config")(**sizes)
