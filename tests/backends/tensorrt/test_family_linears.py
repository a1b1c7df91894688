"""Linears of every kind that families bring run in INT8, by the report of the builder itself: one small model a kind."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx
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
from vitgraph.pass_manager.numerics import measure
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
    """CaFormer: a stage of separable convolutions, one of attention and linears."""
    package = import_module("timm.models.metaformer")
    mixers, norms = [package.SepConv, package.Attention], [package.LayerNorm2dNoBias, package.LayerNormNoBias]
    return made(package.MetaFormer, depths=(1, 1), dims=(32, 64), token_mixers=mixers, norm_layers=norms)


def multi_scale() -> nn.Module:
    """MViTv2: q, k and v are pooled by depthwise convolutions, the shortcut has a linear."""
    package = import_module("timm.models.mvitv2")
    config = package.MultiScaleVitCfg(depths=(1, 1), embed_dim=32, num_heads=1)
    return made(package.MultiScaleVit, cfg=config, img_size=(SIZE, SIZE))


def mobile_vit(block: str, **sizes: Any) -> nn.Module:
    """An inverted residual and a block of MobileViT, whose attention is of linears, or MobileViTv2, which has none."""
    package = import_module("timm.models.byobnet")
    kind = package.ByoBlockCfg
    inverted = {"bottle_in": True, "linear_out": True}
    stage = (
        kind(type="bottle", d=1, c=32, s=2, gs=1, br=2.0, block_kwargs=inverted),
        kind(type=block, d=1, c=32, s=1, gs=1, br=0.5, block_kwargs={"transformer_depth": 1, "patch_size": 2, **sizes}),
    )
    first = kind(type="bottle", d=1, c=16, s=1, gs=1, br=2.0, block_kwargs=inverted)
    config = package.ByoModelCfg(
        blocks=(first, stage), stem_type="3x3", stem_chs=16, stem_pool="", downsample="", act_layer="silu"
    )
    return made(package.ByobNet, cfg=config)


def coat_net() -> nn.Module:
    """CoAtNet: inverted bottlenecks with squeeze and excitation, then attention, all of convolutions."""
    package = import_module("timm.models.maxxvit")
    sizes = {"embed_dim": (32, 64), "depths": (1, 1), "block_type": ("C", "T"), "stem_width": (16, 32)}
    return made(package.MaxxVit, cfg=replace(package.model_cfgs["coatnet_0_rw"], **sizes), img_size=SIZE)


def efficient_former() -> nn.Module:
    """EfficientFormerV2: talking heads between attention's products, and a stage of convolutions ahead of them."""
    package = import_module("timm.models.efficientformer_v2")
    sizes = {
        "depths": (1,) * 3,
        "embed_dims": (16, 32, 64),
        "downsamples": (False, True, True),
        "mlp_ratios": ((4,),) * 3,
    }
    return made(package.EfficientFormerV2, img_size=SIZE, num_vit=1, **sizes)  # fmt: skip


def efficient_vit() -> nn.Module:
    """EfficientViT of MIT: linear attention with ReLU."""
    package = import_module("timm.models.efficientvit_mit")
    return made(package.EfficientVit, widths=(8, 16, 16, 32), depths=(1, 1, 1, 1), head_dim=16, head_widths=(64, 64))


def levit() -> nn.Module:
    """LeViT with its linears as convolutions."""
    package = import_module("timm.models.levit")
    sizes = {"embed_dim": (32, 64), "key_dim": 16, "depth": (1, 1), "num_heads": (2, 4)}
    return made(package.Levit, img_size=SIZE, use_conv=True, **sizes)


MODELS: dict[str, tuple[Make, dict[str, int]]] = {
    "a depthwise convolution ahead of the activation": (
        partial(timm, "pvt_v2_b0", depths=(1, 1, 1, 1)),
        {"fc1": 4, "fc2": 4},
    ),
    "a power after the activation, separable convolutions": (
        star_relu,
        {"fc1": 4, "fc2": 2, "linear": 1, "qkv": 1, "proj": 1},
    ),
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
        {"linear": 4, "fc1": 4},
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
    "CoAtNet's convolutions": (coat_net, {"fc1": 2, "fc2": 2, "qkv": 1, "proj": 1, "linear": 1}),
    "MobileViT's convolutions": (
        partial(mobile_vit, "mobilevit", transformer_dim=32),
        {"fc1": 3, "fc2": 5, "qkv": 1, "proj": 1},
    ),
    "MobileViTv2's convolutions": (partial(mobile_vit, "mobilevit2"), {"fc1": 3, "fc2": 6, "linear": 1}),
    "EfficientFormerV2's convolutions": (efficient_former, {"fc1": 2, "fc2": 5, "q": 1, "v": 2}),
    "EfficientViT's convolutions": (efficient_vit, {"fc1": 6, "fc2": 5, "v": 1, "proj": 1}),
    "LeViT's convolutions": (levit, {"qkv": 3, "q": 1, "fc1": 3, "fc2": 6}),
}


def pool_former() -> nn.Module:
    """No attention and no softmax; its products are pointwise convolutions."""
    package = import_module("timm.models.metaformer")
    return made(package.MetaFormer, depths=(1, 1), dims=(16, 32))


def windows() -> nn.Module:
    """Convolutions of windows alone."""
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


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
    module, (image, _) = make().eval(), next(Noise((3, SIZE, SIZE), count=2).batches(1))
    program = compiled(lambda: module, load_recipe("int8", find_pass).pipeline)
    block = [site.role for site in find_sites(program).linears if site.role in BLOCK_ROLES]
    assert {role: block.count(role) for role in expected} == expected
    assert measure(module(image), program.run(image)).cosine > 0.99
    artifact = built(program, tmp_path)
    assert artifact.report["linears"] == {"planned_int8": len(block), "int8": len(block), "fallback": []}
    assert artifact.violations == ()


@pytest.mark.parametrize("remedy", ["only", "trio"])
def test_the_remedies_of_a_model_that_is_left_in_float_are_some(remedy: str, tmp_path: Path) -> None:
    int8 = load_recipe("int8", find_pass).pipeline
    left = compiled(windows, int8)
    (finding,) = findings_of(left.ledger, LeftInFloatFinding)
    assert finding.left_in_float.startswith("conv ")
    program = compiled(windows, all_sites(int8) if remedy == "only" else load_recipe("trio", find_pass).pipeline)
    assert findings_of(program.ledger, LeftInFloatFinding) == []
    sites = len(find_sites(program).linears)
    artifact = built(program, tmp_path)
    assert artifact.report["linears"] == {"planned_int8": sites, "int8": sites, "fallback": []}
    assert artifact.violations == ()


def test_convolutions_that_are_skipped_are_planned_as_none(tmp_path: Path) -> None:
    steps = load_recipe("int8", find_pass).pipeline.passes
    skipping = Pipeline(
        tuple(replace(step, skip=("pointwise",)) if isinstance(step, Quantize) else step for step in steps)
    )
    program = compiled(pool_former, skipping)
    linears = [site for site in find_sites(program).linears if site.role in BLOCK_ROLES and not site.is_conv]
    assert built(program, tmp_path).report["linears"]["planned_int8"] == len(linears) == 1


def test_a_convolution_that_reads_no_rounded_value_is_found_in_floating_point(tmp_path: Path) -> None:
    """The contract's check can fail: one convolution's pair is taken out of the file."""
    program = compiled(pool_former, load_recipe("int8", find_pass).pipeline)
    model = lower(program, tmp_path / "model.onnx")
    plan = find_builder("tensorrt").plan(program, model, A100, parse_batch("1"))
    graph = onnx.load(model.path)  # pyright: ignore[reportUnknownMemberType]
    writers = {name: node for node in graph.graph.node for name in node.output}
    conv = next(node for node in graph.graph.node if node.op_type == "Conv" and node.attribute[0].ints[:] == [1, 1])
    read = writers[conv.input[0]]
    while read.op_type in ("DequantizeLinear", "QuantizeLinear"):
        conv.input[0] = read.input[0]
        read = writers[conv.input[0]]
    onnx.save(graph, model.path)  # pyright: ignore[reportUnknownMemberType]
    artifact = plan.run(silent)
    assert len(artifact.report["linears"]["fallback"]) == 1
    assert "int8 gemm" in str(artifact.violations[0])
