"""The embedded example as a source of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from vitgraph import digits
from vitgraph.frontend.source import Head, ModelArgs
from vitgraph.frontend.weight_files import Convert
from vitgraph.images.preprocess import Preprocessing

# 8x8 pixels are scaled to 24x24 and cut into 6x6 patches of 4x4: 36 tokens and the class token. Width and head
# dimension (32) are ones that INT8 attention and 2:4 sparse INT8 linears have kernels for.
PREPROCESSING = Preprocessing(
    image_size=(24, 24), mean=(0.3,), std=(0.37,), resize=(24, 24), fit="exact", crop="none", interpolation="bilinear"
)


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

    def preprocessing(self, module: nn.Module) -> Mapping[str, Any] | None:
        """As in training."""
        return PREPROCESSING.model_dump()

    def classes(self, module: nn.Module) -> int | None:
        """Ten."""
        return len(digits.CLASS_NAMES)

    def class_names(self, module: nn.Module) -> Sequence[str] | None:
        """The digits."""
        return digits.CLASS_NAMES

    def head(self, module: nn.Module) -> Head | None:
        """None: its weights are whole."""
        return None

    def notes(self, module: nn.Module) -> Sequence[str]:
        """Nothing is decided."""
        return ()

    def converter(self, module: nn.Module) -> Convert | None:
        """None: the weights are stored under their own names."""
        return None
