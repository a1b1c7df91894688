"""What every source of models answers, and how its messages name near misses."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import nn

from vitgraph.frontend.weight_files import Convert

ModelArgs = Mapping[str, Any]


class Source(Protocol):
    """What `load_model` asks of a source of models."""

    @property
    def kind(self) -> str:
        """Where the model comes from, with the version that defines it."""
        ...

    @property
    def size_argument(self) -> str | None:
        """The model argument that sets the image size; None where the source has none."""
        ...

    @property
    def class_argument(self) -> str | None:
        """The model argument that sets the number of classes; None where the source has none."""
        ...

    def make(self, arguments: ModelArgs, pretrained: bool) -> nn.Module:
        """Make the module, with pretrained weights or as its authors initialize it."""
        ...

    def preprocessing(self, module: nn.Module) -> Mapping[str, Any] | None:
        """The module's own data config, as fields of a `Preprocessing`; None where it has none.

        They are held against each other when the user's options are in their place, so that options can mend them.
        """
        ...

    def classes(self, module: nn.Module) -> int | None:
        """The number of classes the module tells apart; None where it cannot be known without running it."""
        ...

    def class_names(self, module: nn.Module) -> Sequence[str] | None:
        """The names of the classes, in order of index; None where they are not known."""
        ...

    def converter(self, module: nn.Module) -> Convert | None:
        """What brings files written for the same model under other names to its own names."""
        ...


def near_misses(name: str, known: Sequence[str]) -> str:
    """List the known names most like `name`, as the middle of a sentence; empty where none is alike."""
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.6)
    return f" (did you mean {', '.join(close)}?)" if close else ""
