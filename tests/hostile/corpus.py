"""The whole corpus, and a slice of it for quick runs."""

from __future__ import annotations

from tests.hostile import documents, graphs, kernels, onnx_models, weights
from tests.hostile.case import Case


def corpus() -> list[Case]:
    """Every hostile file."""
    return [*graphs.cases(), *kernels.cases(), *documents.cases(), *weights.cases(), *onnx_models.cases()]


def quick() -> list[Case]:
    """The famous ones, those for kernels, and of the others every eighth."""
    found = graphs.cases()
    chosen = [case for position, case in enumerate(found) if case.name.startswith("A1") or position % 8 == 0]
    return [*chosen, *kernels.cases()]
