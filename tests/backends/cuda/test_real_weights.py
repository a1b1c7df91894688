"""ViT-Tiny with its ImageNet weights: what its sites become, and every step of the plan against the program.

Logits are not compared: the last bit of the input moves those of such a network by 5.2 % (see `stepwise`).
"""

from collections import Counter
from pathlib import Path

import pytest

import vitgraph
from tests.backends.cuda.lowered_models import for_engine, images_of, twin_of
from tests.backends.cuda.stepwise import step_errors
from vitgraph.backends.cuda.lowering import lower_program

SPARSE = (
    "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fold-layer-scale,fuse-attention,fold-constants,"
    "nm-mask,smooth-quant,quantize{outputs=true},absorb-shifts"
)
"""The recipe sparse-int8 without what takes long."""
STEPS = 118
"""Buffers that a node of the program has the name of."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "format", "kernel"), [("int8", "int8", "linear"), (SPARSE, "int8 2:4", "sparse linear")]
)
def test_vit_tiny_step_by_step(data: Path, recipe: str, format: str, kernel: str) -> None:
    """Two images. All 48 linears of its blocks and all 12 attentions are of INT8 kernels."""
    weights, images = data / "weights/vit_tiny_patch16_224_in1k.safetensors", data / "imagenet"
    steps = recipe if recipe == "int8" else vitgraph.read_pipeline(recipe)
    program = for_engine(
        vitgraph.quantize(
            "vit_tiny_patch16_224", images / "calibration500.zip", steps, weights=weights, images=2, target="a100"
        )
    )
    lowered = lower_program(program)
    chosen = Counter((site.format, site.kernel) for site in lowered.plan.sites)
    assert chosen == {(format, kernel): 48, ("int8", "attention"): 12, ("fp16", "torch"): 2}
    errors = list(step_errors(program, twin_of(lowered), images_of(program, images / "validation500.zip", 2)))
    assert len(errors) == STEPS
    assert [each for each in errors if each.wrong] == []
