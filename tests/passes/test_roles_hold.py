"""Roles are what they were after every pass: what one pass inserts hides no site from the next."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.passes.quantization.test_quantize import Noise
from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.analysis.sites import find_sites
from vitgraph.compile.recipe import load_recipe
from vitgraph.frontend.capture import capture
from vitgraph.ir.calls import WeightedCall
from vitgraph.ir.operator_classes import PAIRS
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes import find_pass
from vitgraph.targets.target import get_target

SIZE = 64


def captured(name: str, **sizes: Any) -> Program:
    """A small model of timm; weights at random."""
    from timm import create_model

    model: torch.nn.Module = create_model(name, num_classes=10, **sizes).eval()
    return capture(model, torch.zeros(1, 3, SIZE, SIZE))


def swin_v2() -> Program:
    """Its patch merges read neighbours that no norm has seen, so smoothing puts a product between."""
    sizes = {"depths": (1, 1), "num_heads": (2, 4), "embed_dim": 32, "img_size": SIZE, "window_size": 4}
    return captured("swinv2_tiny_window8_256", **sizes)


def pvt_v2() -> Program:
    """A depthwise convolution between a block's linears."""
    return captured("pvt_v2_b0", depths=(1, 1, 1, 1))


def roles(program: Program) -> list[tuple[str, str]]:
    return [(site.path, site.role) for site in find_sites(program).linears]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "recipe"), [(swin_v2, "int8-best"), (swin_v2, "sparse-int8-best"), (pvt_v2, "sparse-int8")]
)
def test_roles_stay_through_a_recipe_and_all_are_quantized(make: Callable[[], Program], recipe: str) -> None:
    program, known = make(), list[tuple[str, str]]()
    for step in load_recipe(recipe, find_pass).pipeline.passes:
        program = Pipeline((step,)).run(
            program, Context(get_target("a100"), calibration=Noise((3, SIZE, SIZE), count=2))
        )
        if step.name == "softmax-check":
            known = roles(program)
            assert {"fc1", "fc2", "head"} < {role for _, role in known}
        assert not known or roles(program) == known, step.name
    assert known
    block = [site for site in find_sites(program).linears if site.role in BLOCK_ROLES]
    assert [site.path for site in block if WeightedCall(site.node).weight.target not in PAIRS] == []
