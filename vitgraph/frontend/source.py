"""What every source of models answers, and how its messages name near misses."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from vitgraph.frontend.weight_files import Convert

ModelArgs = Mapping[str, Any]


@dataclass(frozen=True)
class Head:
    """The part of a model that makes classes of features."""

    parts: tuple[str, ...]
    """Paths of its modules, or where they would be in a model that was made without."""
    without: str
    """How the model is made without a head, for messages."""

    def holds(self, key: str) -> bool:
        """Whether a tensor of this name is the head's."""
        return any(key.startswith(f"{part}.") for part in self.parts)

    def holds_all(self, keys: Sequence[str]) -> bool:
        """Whether all of these are."""
        return all(map(self.holds, keys))


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
        """The number of classes the module tells apart; 0 if it gives features, None where only running it could tell."""
        ...

    def class_names(self, module: nn.Module) -> Sequence[str] | None:
        """The names of the classes, in order of index; None where they are not known."""
        ...

    def head(self, module: nn.Module) -> Head | None:
        """The module's head, or the one that it was made without; None where that is not known."""
        ...

    def notes(self, module: nn.Module) -> Sequence[str]:
        """What was decided when the module was made, in sentences for the report."""
        ...

    def converter(self, module: nn.Module) -> Convert | None:
        """What brings files written for the same model under other names to its own names."""
        ...


def near_misses(name: str, known: Sequence[str]) -> str:
    """List the known names most like `name`, as the middle of a sentence; empty where none is alike."""
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.6)
    return f" (did you mean {', '.join(close)}?)" if close else ""
