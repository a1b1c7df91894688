"""Which model is asked for, before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch takes seconds to import; a request that is wrong should be told so at once
    from torch import nn

    from vitgraph.images.preprocess import PreprocessingOptions
    from vitgraph.ir.program import Program


@dataclass(frozen=True)
class ModelRequest:
    """A model and how it is made, or a saved program, which has all of that in it; None leaves the model's own."""

    model: str | Path | nn.Module | Program
    """A model's name (see `vitgraph.frontend.find`), a module, a Program, or where one was saved, as ONNX too."""
    weights: str | Path | None = None
    """`pretrained` (what None stands for), `random`, or a file."""
    model_args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Arguments for the model's maker."""
    preprocessing: PreprocessingOptions | None = None
    """What is put in place of the model's own."""
    seed: int = 0
    """For random weights and random images."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.model) if isinstance(self.model, str | Path) else type(self.model).__name__

    def given(self) -> list[str]:
        """The settings that a saved program has in it and that were given all the same."""
        found = ["--weights"] * (self.weights is not None) + ["--model-args"] * bool(self.model_args)
        return found + self.given_preprocessing()

    def given_preprocessing(self) -> list[str]:
        """Those of them that say what images are made into."""
        own = self.preprocessing
        names = [] if own is None else [each.name for each in fields(own) if getattr(own, each.name) is not None]
        return [f"--{name.replace('_', '-')}" for name in names]
