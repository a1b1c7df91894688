"""Linears of every kind that families bring run in INT8, by the report of the builder itself: one small model a kind."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.passes.quantization.test_quantize import Noise
from tests.pixels_model import Pixels
from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.analysis.sites import find_sites
from vitgraph.backends import find_builder
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.tensorrt.backend import unbuildable_why
from vitgraph.compile.recipe import load_recipe
from vitgraph.frontend.capture import capture
from vitgraph.ir.batch import parse_batch
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import LeftInFloatFinding, findings_of
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes import find_pass
from vitgraph.passes.quantization.quantize import Quantize
from vitgraph.progress import silent
from vitgraph.runtime.backend import Artifact
from vitgraph.targets.target import get_target

A100 = get_target("a100")
SIZE = 64
Make = Callable[[], nn.Module]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(unbuildable_why(A100) is not None, reason=f"no engine here: {unbuildable_why(A100)}"),
]


def timm(name: str, **sizes: Any) -> nn.Module:
    create: Callable[..., nn.Module] = import_module("timm").create_model
    return create(name, num_classes=10, **sizes)


def transformers(name: str, config: str, **sizes: Any) -> nn.Module:
    package = import_module("transformers")
    return Pixels(getattr(package, name)(getattr(package, config)(**sizes)))


def made(kind: Callable[..., nn.Module], **sizes: Any) -> nn.Module:
    return kind(num_classes=10, **sizes)


def gated() -> nn.Module:
    """The two halves of the MLP are linears of their own."""
    return timm("vit_tiny_patch16_224", depth=1, img_size=SIZE, mlp_layer=import_module("timm.layers").SwiGLU)


def star_relu() -> nn.Module:
    """CaFormer's second stage alone is of linears."""
    package = import_module("timm.models.metaformer")
    mixers, norms = [package.SepConv, package.Attention], [package.LayerNorm2dNoBias, package.LayerNormNoBias]
    return made(package.MetaFormer, depths=(1, 1), dims=(32, 64), token_mixers=mixers, norm_layers=norms)


def multi_scale() -> nn.Module:
    """MViTv2: q, k and v are pooled by depthwise convolutions, the shortcut has a linear."""
    package = import_module("timm.models.mvitv2")
    config = package.MultiScaleVitCfg(depths=(1, 1), embed_dim=32, num_heads=1)
    return made(package.MultiScaleVit, cfg=config, img_size=(SIZE, SIZE))


MODELS: dict[str, tuple[Make, dict[str, int]]] = {
    "a depthwise convolution ahead of the activation": (
        partial(timm, "pvt_v2_b0", depths=(1, 1, 1, 1)),
        {"fc1": 4, "fc2": 4},
    ),
    "a power after the activation": (star_relu, {"fc2": 1}),
    "a gated half": (gated, {"fc1": 2, "fc2": 1}),
    "pooled q, k and v; a shortcut": (multi_scale, {"qkv": 2, "proj": 2, "linear": 1}),
    "rotary embeddings": (
        partial(
            transformers,
            "DINOv3ViTModel",
            "DINOv3ViTConfig",
            num_hidden_layers=1,
            hidden_size=64,
            num_attention_heads=2,
            intermediate_size=128,
            image_size=SIZE,
        ),
        {"q": 1, "k": 1, "v": 1},
    ),
    "a modulation, with an odd number of outputs": (
        partial(
            transformers,
            "FocalNetForImageClassification",
            "FocalNetConfig",
            depths=[1, 1],
            embed_dim=32,
            hidden_sizes=[32, 64],
            focal_levels=[2, 2],
            focal_windows=[3, 3],
            image_size=SIZE,
        ),
        {"linear": 2, "fc1": 4},
    ),
    "additive attention": (partial(timm, "swiftformer_xs", layers=(1, 1, 1, 1)), {"linear": 20}),
    "patch merges without a norm": (
        partial(
            timm,
            "swinv2_tiny_window8_256",
            depths=(1, 1),
            num_heads=(2, 4),
            embed_dim=32,
            img_size=SIZE,
            window_size=4,
        ),
        {"merge": 1},
    ),
}


def pool_former() -> nn.Module:
    """No attention and no softmax; its products are pointwise convolutions."""
    package = import_module("timm.models.metaformer")
    return made(package.MetaFormer, depths=(1, 1), dims=(16, 32))


def compiled(make: Make, steps: Pipeline) -> Program:
    return steps.run(
        capture(make().eval(), torch.zeros(1, 3, SIZE, SIZE)),
        Context(A100, calibration=Noise((3, SIZE, SIZE), count=2)),
    )


def built(program: Program, folder: Path) -> Artifact:
    model = lower(program, folder / "model.onnx")
    return find_builder("tensorrt").plan(program, model, A100, parse_batch("1")).run(silent)


def all_sites(steps: Pipeline) -> Pipeline:
    """The same with `quantize{only=[*]}`."""
    return Pipeline(tuple(replace(step, only=("*",)) if isinstance(step, Quantize) else step for step in steps.passes))


@pytest.mark.parametrize("kind", MODELS)
def test_every_linear_of_a_block_runs_in_int8(kind: str, tmp_path: Path) -> None:
    make, expected = MODELS[kind]
    program = compiled(make, load_recipe("int8", find_pass).pipeline)
    block = [site.role for site in find_sites(program).linears if site.role in BLOCK_ROLES]
    assert {role: block.count(role) for role in expected} == expected
    artifact = built(program, tmp_path)
    assert artifact.report["linears"] == {"planned_int8": len(block), "int8": len(block), "fallback": []}
    assert artifact.violations == ()


@pytest.mark.parametrize("remedy", ["only", "trio"])
def test_the_remedies_of_a_model_that_is_left_in_float_are_some(remedy: str, tmp_path: Path) -> None:
    int8 = load_recipe("int8", find_pass).pipeline
    left = compiled(pool_former, int8)
    assert len(findings_of(left.ledger, LeftInFloatFinding)) == 1
    program = compiled(pool_former, all_sites(int8) if remedy == "only" else load_recipe("trio", find_pass).pipeline)
    assert findings_of(program.ledger, LeftInFloatFinding) == []
    sites = len(find_sites(program).linears)
    artifact = built(program, tmp_path)
    assert artifact.report["linears"] == {"planned_int8": sites, "int8": sites, "fallback": []}
    assert artifact.violations == ()
