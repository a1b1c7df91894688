"""What a compilation is to be warned of that left most of its model in floating point, though a recipe was to quantize it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitgraph.pass_manager.findings import LeftInFloatFinding, SoftmaxFinding, findings_of

_TRIO = "; `--recipe trio` quantizes a model without a softmax throughout"


def float_warnings(ledger: Sequence[Mapping[str, Any]], recipe: str) -> list[str]:
    """A line for each pass that left more than half of the multiply-accumulates in floating point, with what quantizes them."""
    return [_line(found) + _other_recipe(ledger, recipe) for found in findings_of(ledger, LeftInFloatFinding)]


def _line(found: LeftInFloatFinding) -> str:
    quantized, left = found.quantized_macs, f"{1 - found.quantized_macs:.0%} of the multiply-accumulates"
    told = f"{left} stay in floating point" if quantized else f"nothing is quantized: {left} stay in floating point"
    return f"{told} ({found.left_in_float}); {found.remedy}"


def _other_recipe(ledger: Sequence[Mapping[str, Any]], recipe: str) -> str:
    """Trio-ViT's, where a check found no softmax."""
    checked = any(step["name"] == "softmax-check" for step in ledger)
    return _TRIO if checked and not findings_of(ledger, SoftmaxFinding) and not recipe.startswith("trio") else ""
