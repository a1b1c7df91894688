"""Where a recipe gets its masks."""

from typing import Any

import pytest

from tests.levels_model import SPACE
from vitgraph.compile.recipe import load_recipe
from vitgraph.passes import find_pass
from vitgraph.searching.elsa_method import leveled


@pytest.mark.parametrize("name", ["fp16", "sparse-int8", "sparse-int8-best"])
def test_one_mask_for_each_level_where_masks_belong(name: str) -> None:
    base = load_recipe(name, find_pass)
    found = leveled(base, SPACE, (0, 1, 2, 0), "a test")
    steps = [step.name for step in found.pipeline.passes]
    assert steps.count("nm-mask") == 2
    place = steps.index("nm-mask")
    assert place > steps.index("softmax-check")
    assert place < steps.index("assign-precision")
    assert "permute-channels" not in steps
    assert (
        "hold-patterns" not in steps
    )  # it would hold zeros that came, and the levels that were chosen would go nowhere
    masks: Any = found.pipeline.passes[place : place + 2]
    assert [(mask.n, mask.m, mask.only, mask.score) for mask in masks] == [
        (1, 4, ("a", "d"), "magnitude"),
        (2, 4, ("b",), "magnitude"),
    ]
    rest = [step for step in base.pipeline.passes if step.name not in ("hold-patterns", "nm-mask", "permute-channels")]
    assert [step for step in found.pipeline.passes if step.name != "nm-mask"] == rest
