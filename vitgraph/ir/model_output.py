"""What a program gives for each image: a score for each class, or features."""

from __future__ import annotations

from torch import fx

from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType

NO_CLASSES = 0
"""Stands for the number of classes of a model that tells none apart (provenance key `classes`)."""


def gives_features(program: Program) -> bool:
    """Whether its model is known to have no classes, or its output is none that could be `[batch, classes]`."""
    if program.provenance.get("classes") == NO_CLASSES:
        return True
    last = program.output.args[0]
    kind: TensorType | None = last.meta.get("type") if isinstance(last, fx.Node) else None
    return kind is not None and len(kind.shape) != 2
