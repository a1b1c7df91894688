"""The embedded example as a source of models."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from vitgraph import digits
from vitgraph.frontend.source import ModelArgs
from vitgraph.frontend.weight_files import Convert
from vitgraph.images.preprocess import Preprocessing


class DigitsSource:
    """The embedded example; its pretrained weights are in the package."""

    kind = "vitgraph, embedded"
    size_argument = None
    class_argument = None

    def make(self, arguments: ModelArgs, pretrained: bool) -> nn.Module:
        """Make the network, trained or not."""
        if arguments:
            raise TypeError(f"{digits.NAME} has no arguments")
        module = digits.build_digits_vit()
        if pretrained:
            module.load_state_dict(digits.load_weights())
        return module

    def preprocessing(self, module: nn.Module) -> Preprocessing | None:
        """As in training."""
        return digits.PREPROCESSING

    def classes(self, module: nn.Module) -> int | None:
        """Ten."""
        return len(digits.CLASS_NAMES)

    def class_names(self, module: nn.Module) -> Sequence[str] | None:
        """The digits."""
        return digits.CLASS_NAMES

    def converter(self, module: nn.Module) -> Convert | None:
        """None: the weights are stored under their own names."""
        return None
