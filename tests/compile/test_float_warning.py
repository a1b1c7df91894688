"""A recipe that quantizes little of a model is no success in silence."""

from typing import Any

import pytest

from vitgraph.compile.float_warning import float_warnings

SOFTMAX = {"name": "softmax-check", "found": [{"softmax": "attn", "spelling": "softmax"}]}
FREE: dict[str, Any] = {"name": "softmax-check", "found": []}


def left(share: float) -> dict[str, Any]:
    return {
        "name": "quantize",
        "found": [{"quantized_macs": share, "left_in_float": "conv 94%", "remedy": "name them"}],
    }


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0.0, "nothing is quantized: 100% of the multiply-accumulates stay in floating point (conv 94%); name them"),
        (0.06, "94% of the multiply-accumulates stay in floating point (conv 94%); name them"),
    ],
)
def test_says_how_much_and_what_helps(share: float, told: str) -> None:
    assert float_warnings([SOFTMAX, left(share)], "int8") == [told]
    assert float_warnings([SOFTMAX, {"name": "quantize", "found": []}], "int8") == []


@pytest.mark.parametrize(
    ("ledger", "recipe", "named"),
    [
        ([FREE, left(0.0)], "int8", True),
        ([SOFTMAX, left(0.0)], "int8", False),
        ([left(0.0)], "int8", False),
        ([FREE, left(0.0)], "trio-dense", False),
    ],
    ids=["no softmax", "a softmax", "nobody looked", "it is the recipe"],
)
def test_names_the_recipe_for_models_without_a_softmax(ledger: list[Any], recipe: str, named: bool) -> None:
    (told,) = float_warnings(ledger, recipe)
    assert ("--recipe trio" in told) == named
