"""Blocks, wherever their sums stand, and which of them are compared."""

from collections.abc import Callable
from functools import cache

import pytest
import timm
import torch
from torch import nn

from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.ir.program import Program
from vitgraph.passes.prepared import prepare
from vitgraph.training.feature_sites import choose_sites, find_blocks, matching_sites


@cache
def program(name: str) -> Program:
    kinds: dict[str, Callable[[], nn.Module]] = {
        "plain": lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, depth=6, embed_dim=32, num_heads=2),
        "wide": lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, depth=6, embed_dim=48, num_heads=2),
        "layer scale": lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=32, num_heads=2, init_values=0.1),
        "stages": lambda: timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=56, depths=(1, 2), embed_dim=16, num_heads=(2, 2), window_size=7
        ),
        "no residual": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)),
    }  # fmt: skip
    module: nn.Module = kinds[name]().eval()
    size = 56 if name == "stages" else 32
    return prepare(capture(module, torch.zeros(2, 3, size, size), dynamic_batch=True))


def test_blocks_are_where_the_stream_is_added_to_last() -> None:
    assert [block.path for block in find_blocks(program("plain"))] == [f"blocks.{number}" for number in range(6)]
    assert [block.path for block in find_blocks(program("layer scale"))] == ["blocks.0", "blocks.1"]
    assert find_blocks(program("no residual")) == []


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("plain", ["blocks.4", "blocks.5"]),
        ("layer scale", ["blocks.1"]),
        ("stages", ["layers.0.blocks.0", "layers.1.blocks.1"]),
        ("no residual", []),
    ],
)
def test_the_last_of_each_stage_or_the_last_third(name: str, paths: list[str]) -> None:
    assert [site.path for site in choose_sites(program(name))] == paths


def test_names_choose_others() -> None:
    assert [site.path for site in choose_sites(program("plain"), ["blocks.[02]"])] == ["blocks.0", "blocks.2"]
    with pytest.raises(InputError, match=r"no block is called 'layers.0'.*there are blocks.0, blocks.1"):
        choose_sites(program("plain"), ["layers.0"])


def test_a_teacher_needs_the_same_blocks() -> None:
    sites = choose_sites(program("plain"))
    assert [site.path for site in matching_sites(sites, program("plain"))] == ["blocks.4", "blocks.5"]
    with pytest.raises(InputError, match=r"outputs \[.*48\] there, the student \[.*32\] \(blocks.4\)"):
        matching_sites(sites, program("wide"))
    with pytest.raises(InputError, match=r"has no such block \(blocks.4\)"):
        matching_sites(sites, program("layer scale"))
