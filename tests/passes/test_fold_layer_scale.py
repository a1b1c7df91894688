from typing import Any

import pytest
import torch
from torch import nn

from tests.harness import check, random_inputs, run
from vitgraph.frontend.capture import capture
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.numerics import objection
from vitgraph.pass_manager.pass_contract import Context, Effect
from vitgraph.passes import pipeline
from vitgraph.passes.fold_layer_scale import FoldLayerScale

aten = torch.ops.aten

BEFORE = """
x: f32[N, 5, 4] = input()
w: f32[8, 4] = weight("fc2.weight")
b: f32[8] = weight("fc2.bias")
linear: f32[N, 5, 8] = aten.linear.default(x, w, b)  # fc2
gamma: f32[8] = weight("ls.gamma")
mul: f32[N, 5, 8] = aten.mul.Tensor(linear, gamma)  # ls
return_(mul)
"""
AFTER = """
x: f32[N, 5, 4] = input()
w: f32[8, 4] = weight("fc2.weight_scaled")
b: f32[8] = weight("fc2.bias_scaled")
linear: f32[N, 5, 8] = aten.linear.default(x, w, b)
return_(linear)
"""
DEPTHWISE = """
x: f32[N, 8, 6, 6] = input()
w: f32[8, 1, 3, 3] = weight("conv.weight")
conv2d: f32[N, 8, 4, 4] = aten.conv2d.default(x, w, None, [1, 1], [0, 0], [1, 1], 8)
gamma: f32[1, 8, 1, 1] = weight("gamma")
mul: f32[N, 8, 4, 4] = aten.mul.Tensor(gamma, conv2d)
return_(mul)
"""
POINTWISE = """
x: f32[N, 4, 6, 6] = input()
w: f32[8, 4, 1, 1] = weight("conv.weight")
b: f32[8] = weight("conv.bias")
conv2d: f32[N, 8, 6, 6] = aten.conv2d.default(x, w, b, [1, 1], [0, 0], [1, 1], 1)
gamma: f32[8, 1, 1] = weight("gamma")
mul: f32[N, 8, 6, 6] = aten.mul.Tensor(conv2d, gamma)
return_(mul)
"""
CONVNEXT = """
x: f32[N, 6, 6, 4] = input()
w: f32[8, 4] = weight("fc2.weight")
linear: f32[N, 6, 6, 8] = aten.linear.default(x, w, None)
permute: f32[N, 8, 6, 6] = aten.permute.default(linear, [0, 3, 1, 2])
gamma: f32[1, 8, 1, 1] = weight("gamma")
mul: f32[N, 8, 6, 6] = aten.mul.Tensor(permute, gamma)
return_(mul)
"""
MASKED = BEFORE.replace(
    "linear: f32[N, 5, 8] = aten.linear.default(x, w, b)",
    'keep: bool[8, 4] = constant("fc2.keep")\n'
    "mask: f32[8, 4] = vitgraph.mask.default(w, keep)\n"
    "linear: f32[N, 5, 8] = aten.linear.default(x, mask, b)",
)


def test_folds_into_a_linear() -> None:
    assert check(FoldLayerScale(), BEFORE, AFTER) == []


def test_folds_one_number_for_all_channels() -> None:
    assert check(FoldLayerScale(), BEFORE.replace("gamma: f32[8]", "gamma: f32[]"), AFTER) == []


def test_folds_one_after_another() -> None:
    twice = BEFORE.replace("return_(mul)", "again: f32[N, 5, 8] = aten.mul.Tensor(mul, gamma)\nreturn_(again)")
    after = AFTER.replace("weight_scaled", "weight_scaled_1").replace("bias_scaled", "bias_scaled_1")
    assert check(FoldLayerScale(), twice, after) == []


def test_folds_into_a_depthwise_convolution_without_bias() -> None:
    after = """
x: f32[N, 8, 6, 6] = input()
w: f32[8, 1, 3, 3] = weight("conv.weight_scaled")
conv2d: f32[N, 8, 4, 4] = aten.conv2d.default(x, w, None, [1, 1], [0, 0], [1, 1], 8)
return_(conv2d)
"""
    assert check(FoldLayerScale(), DEPTHWISE, after) == []


def test_folds_into_a_1x1_convolution_with_bias() -> None:
    after = """
x: f32[N, 4, 6, 6] = input()
w: f32[8, 4, 1, 1] = weight("conv.weight_scaled")
b: f32[8] = weight("conv.bias_scaled")
conv2d: f32[N, 8, 6, 6] = aten.conv2d.default(x, w, b, [1, 1], [0, 0], [1, 1], 1)
return_(conv2d)
"""
    assert check(FoldLayerScale(), POINTWISE, after) == []


def test_follows_the_channels_through_a_permute() -> None:
    after = """
x: f32[N, 6, 6, 4] = input()
w: f32[8, 4] = weight("fc2.weight_scaled")
linear: f32[N, 6, 6, 8] = aten.linear.default(x, w, None)
permute: f32[N, 8, 6, 6] = aten.permute.default(linear, [0, 3, 1, 2])
return_(permute)
"""
    assert check(FoldLayerScale(), CONVNEXT, after) == []


def test_a_mask_stays_as_it_is() -> None:
    after = """
x: f32[N, 5, 4] = input()
keep: bool[8, 4] = constant("fc2.keep")
w: f32[8, 4] = weight("fc2.weight_scaled")
mask: f32[8, 4] = vitgraph.mask.default(w, keep)
b: f32[8] = weight("fc2.bias_scaled")
linear: f32[N, 5, 8] = aten.linear.default(x, mask, b)
return_(linear)
"""
    assert check(FoldLayerScale(), MASKED, after) == []


def test_the_weights_can_still_be_trained() -> None:
    folded = run(FoldLayerScale(), parse(BEFORE))
    assert [name for name, _ in folded.module.named_parameters()] == ["fc2.weight_scaled", "fc2.bias_scaled"]


def test_a_weight_read_twice_stays_for_the_other_reader() -> None:
    text = BEFORE.replace("return_(mul)", "other: f32[N, 5, 8] = aten.linear.default(x, w, b)\nreturn_([mul, other])")
    program = parse(text)
    x = torch.randn(2, 5, 4)
    for ours, theirs in zip(run(FoldLayerScale(), program).run(x), program.run(x), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BEFORE.replace("return_(mul)", "return_([mul, linear])"), "used elsewhere"),
        (CONVNEXT.replace("return_(mul)", "return_([mul, linear])"), "used elsewhere"),
        (BEFORE.replace('w: f32[8, 4] = weight("fc2.weight")', "w: f32[8, 4] = input()"), "weight or bias"),
        (BEFORE.replace('b: f32[8] = weight("fc2.bias")', "b: f32[8] = input()"), "weight or bias"),
        (MASKED.replace("return_(mul)", "return_([mul, mask])"), "masked weight"),
        (BEFORE.replace('gamma: f32[8] = weight("ls.gamma")', "gamma: f32[8] = input()"), "factor is computed"),
        (BEFORE.replace("gamma: f32[8]", "gamma: f32[5, 1]"), "differ within a channel"),
        (BEFORE.replace("Tensor(linear,", "Tensor(act,").replace("gamma:", "act: f32[N, 5, 8] = aten.gelu.default(linear)\ngamma:"), "no linear"),
    ],
)  # fmt: skip
def test_refuses_and_says_why(text: str, why: str) -> None:
    (refusal,) = check(FoldLayerScale(), text, text)
    assert why in refusal.why


@pytest.mark.parametrize(("gamma", "folds"), [(1e-1, True), (1e-6, False), (1e6, False)])
def test_refuses_factors_that_fp16_weights_can_not_hold(gamma: float, folds: bool) -> None:
    program = parse(BEFORE, {**parse(BEFORE).tensors(), "ls.gamma": torch.full((8,), gamma)})
    context = Context()
    folded = run(FoldLayerScale(), program, context)
    assert ("mul" not in str(folded)) is folds
    assert [refusal.why for refusal in context.refusals] == ([] if folds else ["FP16 can't hold the scaled weights"])


def test_refuses_nothing_where_all_weights_are_zero() -> None:
    program = parse(BEFORE, {**parse(BEFORE).tensors(), "ls.gamma": torch.zeros(8)})
    assert "mul" not in str(run(FoldLayerScale(), program))


@pytest.mark.parametrize(
    "text",
    [
        BEFORE.replace("Tensor(linear, gamma)", "Tensor(linear, 0.5)"),
        BEFORE.replace("Tensor(linear, gamma)", "Tensor(linear, linear)"),
        BEFORE.replace("Tensor(linear, gamma)", "Tensor(linear, gate)").replace(
            "gamma:", "gate: f32[N, 5, 8] = aten.silu.default(linear)\ngamma:"
        ),
        BEFORE.replace("Tensor(linear, gamma)", "Tensor(linear, cosine)").replace(
            "gamma:", 'cosine: f32[5, 8] = constant("cosine")\ngamma:'
        ),
    ],
)
def test_leaves_numbers_squares_gates_and_encoded_positions_alone(text: str) -> None:
    text = text.replace('gamma: f32[8] = weight("ls.gamma")\n', "")
    assert check(FoldLayerScale(), text, text) == []


def test_stops_when_the_fuel_is_used_up() -> None:
    program = parse(BEFORE)
    context = Context(fuel=1)  # the pipeline's own unit
    assert str(run(FoldLayerScale(), program, context)) == str(program)


def small_model(name: str) -> nn.Module:
    """A model of timm with LayerScale, small, with factors as training leaves them."""
    from timm.models import beit, cait, convnext, vision_transformer

    if name == "convnext":
        return convnext.ConvNeXt(num_classes=10, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), ls_init_value=0.1)
    sizes: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 16,
        "num_classes": 10,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
    }
    kinds = {"vit": vision_transformer.VisionTransformer, "cait": cait.Cait, "beit": beit.Beit}
    model: nn.Module = kinds[name](**sizes, init_values=0.1)
    return model


@pytest.mark.parametrize(
    ("name", "products"), [("vit", [4, 0]), ("beit", [4, 0]), ("cait", [10, 2]), ("convnext", [4, 0])]
)
def test_models_of_timm_lose_the_products(name: str, products: list[int]) -> None:
    program = capture(small_model(name).eval(), torch.randn(1, 3, 32, 32))
    before = pipeline("canonicalize,fold-constants,fuse-layer-norm").run(program)
    after = pipeline("fold-layer-scale").run(before)
    assert [len(each.calls(aten.mul.Tensor)) for each in (before, after)] == products
    inputs = random_inputs(before)
    assert objection(Effect.REORDERS, before.run(*inputs), after.run(*inputs)) is None
