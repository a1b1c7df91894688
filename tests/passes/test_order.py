"""The reasons for `ORDER`, each shown on a small text: another order gives another, worse result."""

from typing import Any

import pytest
import torch

from tests.harness import random_inputs
from tests.passes.precision.test_mixed_precision import CLASSIFIER
from tests.passes.precision.test_mixed_precision import context as placing
from tests.passes.quantization.test_quantize import BLOCK, context
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import ORDER, find_pass, pipeline


def run(steps: str, text: str, given: Context | None = None, tensors: Any = None) -> Program:
    return pipeline(steps).run(parse(text, tensors), given)


def targets(program: Program) -> list[Any]:
    return [node.target for node in program.calls()]


def test_every_name_of_the_order_is_a_pass() -> None:
    assert [find_pass(name).name for name in ORDER] == list(ORDER)


def test_canonicalize_first_for_patterns_know_one_spelling() -> None:
    text = """
# form: captured
q: f32[2, 5, 4] = input()
k: f32[2, 5, 4] = input()
v: f32[2, 5, 4] = input()
t: f32[2, 4, 5] = aten.transpose.int(k, 1, 2)
s: f32[2, 5, 5] = aten.bmm.default(q, t)
p: f32[2, 5, 5] = aten._softmax.default(s, 2, False)
y: f32[2, 5, 4] = aten.bmm.default(p, v)
return_(y)
"""
    assert set(targets(run("canonicalize,fuse-attention", text))) == {aten.reshape.default, dialect.attention}
    assert dialect.attention not in targets(run("fuse-attention,canonicalize", text))
    with pytest.raises(InputError, match="run the pass canonicalize first"):
        run("nm-mask", text)


def test_constants_before_patterns_for_they_read_numbers() -> None:
    text = """
q: f32[2, 5, 4] = input()
kt: f32[2, 4, 5] = input()
v: f32[2, 5, 4] = input()
d: f32[] = constant("d")
r: f32[] = aten.sqrt.default(d)
s: f32[2, 5, 5] = aten.matmul.default(q, kt)
m: f32[2, 5, 5] = aten.div.Tensor(s, r)
p: f32[2, 5, 5] = aten.softmax.int(m, 2)
y: f32[2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""
    tensors = {"d": torch.tensor(4.0)}
    assert dialect.attention in targets(run("fold-constants,fuse-attention", text, tensors=tensors))
    assert dialect.attention not in targets(run("fuse-attention,fold-constants", text, tensors=tensors))


BATCH_NORM = """
x: f32[2, 5, 8] = input()
w: f32[8, 8] = weight("fc1.weight")
y: f32[2, 5, 8] = aten.linear.default(x, w, None)  # fc1
g: f32[8] = weight("bn.weight")
m: f32[8] = constant("bn.mean")
r: f32[10, 8] = aten.reshape.default(y, [10, 8])
n: f32[10, 8] = aten.batch_norm.default(r, g, None, m, g, False, 0.1, 1.0, False)
a: f32[10, 8] = aten.relu.default(n)
return_(a)
"""


@pytest.mark.parametrize("step", ["nm-mask", "quantize{attention=false}"])
def test_batch_norms_before_masks_and_scales_for_they_belong_to_the_folded_weight(step: str) -> None:
    right = run(f"fold-batch-norm,{step}", BATCH_NORM, context(channels=8))
    wrong = run(f"{step},fold-batch-norm", BATCH_NORM, context(channels=8))
    assert aten.batch_norm.default not in targets(right)
    assert aten.batch_norm.default in targets(wrong)


LAYER_SCALE = """
x: f32[2, 5, 8] = input()
w: f32[8, 8] = weight("fc2.weight")
y: f32[2, 5, 8] = aten.linear.default(x, w, None)  # fc2
gamma: f32[8] = weight("ls.gamma")
scaled: f32[2, 5, 8] = aten.mul.Tensor(y, gamma)  # ls
s: f32[2, 5, 8] = aten.add.Tensor(x, scaled)
return_(s)
"""


def test_layer_scales_before_scales_are_chosen_for_the_folded_weight() -> None:
    steps = "quantize{only=[*] attention=false}"
    right = run(f"fold-layer-scale,{steps}", LAYER_SCALE, context(channels=8))
    wrong = run(f"{steps},fold-layer-scale", LAYER_SCALE, context(channels=8))
    assert aten.mul.Tensor not in targets(right)
    assert aten.mul.Tensor in targets(wrong)
    assert wrong.ledger[1]["refused"] == [
        {"site": "ls", "why": "the weight or bias of the layer before it is computed"}
    ]


def test_layer_norms_before_layer_scales_for_their_factors_are_their_own() -> None:
    text = """
x: f32[2, 8] = input()
mean: f32[2, 1] = aten.mean.dim(x, [1], True)
sub: f32[2, 8] = aten.sub.Tensor(x, mean)
pow: f32[2, 8] = aten.pow.Tensor_Scalar(sub, 2)
var: f32[2, 1] = aten.mean.dim(pow, [1], True)
add: f32[2, 1] = aten.add.Tensor(var, 1e-05)
sqrt: f32[2, 1] = aten.sqrt.default(add)
div: f32[2, 8] = aten.div.Tensor(sub, sqrt)
gamma: f32[8] = weight("norm.weight")
mul: f32[2, 8] = aten.mul.Tensor(div, gamma)
return_(mul)
"""
    right = run("fuse-layer-norm,fold-layer-scale", text)
    wrong = run("fold-layer-scale,fuse-layer-norm", text)
    assert right.ledger[1]["refused"] == []
    assert wrong.ledger[0]["refused"]


def test_layer_norms_before_types_for_fp16_overflows_in_a_square() -> None:
    text = """
x: f32[2, 8] = input()
b: f32[2, 8] = aten.mul.Tensor(x, 1000.0)
mean: f32[2, 1] = aten.mean.dim(b, [1], True)
sub: f32[2, 8] = aten.sub.Tensor(b, mean)
pow: f32[2, 8] = aten.pow.Tensor_Scalar(sub, 2)
var: f32[2, 1] = aten.mean.dim(pow, [1], True)
add: f32[2, 1] = aten.add.Tensor(var, 1e-05)
sqrt: f32[2, 1] = aten.sqrt.default(add)
div: f32[2, 8] = aten.div.Tensor(sub, sqrt)
return_(div)
"""
    wanted = parse(text)
    inputs = random_inputs(wanted)
    right = run("fuse-layer-norm,assign-precision", text).run(*inputs)
    wrong = run("assign-precision", text).run(*inputs)
    torch.testing.assert_close(right, wanted.run(*inputs), rtol=0.01, atol=0.01)
    assert not torch.allclose(wrong, wanted.run(*inputs), rtol=0.01, atol=0.01)


BY_HAND = BLOCK.format(t=5, d=16, c=32, c3=96).replace(
    "a: f32[N, 2, 5, 16] = vitgraph.attention.default(q, k, v, None, 0.25)  # attn",
    """kt: f32[N, 2, 16, 5] = aten.permute.default(k, [0, 1, 3, 2])
sc: f32[N, 2, 5, 5] = aten.matmul.default(q, kt)  # attn
pr: f32[N, 2, 5, 5] = aten.softmax.int(sc, 3)  # attn
a: f32[N, 2, 5, 16] = aten.matmul.default(pr, v)  # attn""",
)


def test_attentions_before_scales_for_scales_belong_around_the_whole() -> None:
    right = run("fuse-attention,quantize", BY_HAND, context())
    wrong = run("quantize,fuse-attention", BY_HAND, context())
    (site,) = right.calls(dialect.attention)
    assert len(site.args) == 6
    assert "attn.qkv.output_scale" in right.tensors()
    (site,) = wrong.calls(dialect.attention)
    assert len(site.args) == 5
    assert "attn.qkv.output_scale" not in wrong.tensors()


def test_softmax_check_after_fusion_for_one_key_needs_no_product() -> None:
    text = """
q: f32[2, 5, 4] = input()
k: f32[2, 1, 4] = input()
v: f32[2, 1, 4] = input()
kt: f32[2, 4, 1] = aten.permute.default(k, [0, 2, 1])
s: f32[2, 5, 1] = aten.matmul.default(q, kt)
p: f32[2, 5, 1] = aten.softmax.int(s, 2)
y: f32[2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""
    assert set(targets(run("fuse-attention,softmax-check", text))) == {aten.reshape.default, aten.expand.default}
    assert aten.matmul.default in targets(run("softmax-check,fuse-attention", text))


def test_masks_before_scales_for_a_mask_goes_on_the_weight() -> None:
    block = BLOCK.format(t=5, d=16, c=32, c3=96)
    right = run("nm-mask,quantize,materialize", block, context())
    integers = right.tensor("qkv.weight_masked_int8")
    assert bool(((integers != 0).reshape(-1, 4).sum(1) <= 2).all())
    for wrong in ("quantize,nm-mask,materialize", "quantize,materialize,nm-mask"):
        with pytest.raises(InputError, match="ahead of quantize"):
            run(wrong, block, context())


PRUNED = "block-prune{granularity=units score=magnitude budget=0.6}"
WIDE = BLOCK.format(t=5, d=16, c=32, c3=96)


def test_units_before_masks_for_a_mask_counts_in_what_is_left() -> None:
    right = run(f"{PRUNED},remove-pruned,nm-mask", WIDE)
    assert right.tensor("proj.weight_narrow_keep").shape == (32, 16)
    wrong = run(f"nm-mask,{PRUNED},remove-pruned", WIDE)  # what has a mask takes no other
    assert [entry["why"] for entry in wrong.ledger[1]["refused"]] == ["it has a mask already"]
    assert wrong.tensor("proj.weight_keep").shape == (32, 32)


def test_units_leave_before_scales_for_scales_stand_in_their_way() -> None:
    right = run(f"{PRUNED},remove-pruned,quantize", WIDE, context())
    wrong = run(f"{PRUNED},quantize,remove-pruned", WIDE, context())
    assert right.tensor("proj.weight_narrow").shape == (32, 16)
    assert "proj.weight_narrow" not in wrong.tensors()


def test_channels_before_masks_for_a_mask_is_made_of_groups() -> None:
    block = BLOCK.format(t=5, d=16, c=32, c3=96)
    right = run("permute-channels,nm-mask", block)
    wrong = run("nm-mask,permute-channels", block)
    assert "proj.weight_permuted" in right.tensors()
    assert "proj.weight_permuted" not in wrong.tensors()


def test_scales_before_types_for_calibration_runs_in_fp32() -> None:
    block = BLOCK.format(t=5, d=16, c=32, c3=96)
    right = run("quantize,assign-precision", block, context())
    wrong = run("assign-precision,quantize", block, context())
    assert {str(node.meta["type"])[:3] for node in right.calls(aten.linear.default)} == {"f32"}
    assert right.run(*random_inputs(right)).isfinite().all()
    with pytest.raises(RuntimeError):  # half values, weights dequantized by FP32 scales
        wrong.run(*random_inputs(wrong))


def test_materialize_after_what_chooses_weights_for_nothing_trains_after_it() -> None:
    block = BLOCK.format(t=5, d=16, c=32, c3=96)
    before = run("nm-mask,quantize", block, context())
    after = pipeline("materialize").run(before)
    assert isinstance(before.tensor("qkv.weight"), torch.nn.Parameter)
    assert not [name for name in after.tensors() if name.endswith("weight")]


def test_legalize_last_for_it_sees_the_types() -> None:
    text = """
x: f32[2, 8] = input()
b: f32[2, 8] = aten.mul.Tensor(x, 1000.0)
y: f32[2, 8] = aten.rms_norm.default(b, [8], None, 1e-06)
return_(y)
"""
    wanted = parse(text)
    inputs = random_inputs(wanted)
    right = run("assign-precision,legalize", text).run(*inputs)
    wrong = run("legalize,assign-precision", text).run(*inputs)
    torch.testing.assert_close(right, wanted.run(*inputs), rtol=0.01, atol=0.01)
    assert not torch.allclose(wrong, wanted.run(*inputs), rtol=0.01, atol=0.01)


def test_placement_before_fitting_for_what_is_taken_back_needs_its_own_weight() -> None:
    before = parse(CLASSIFIER)
    original = before.tensor("fc2.weight")
    for steps, same in (("mixed-precision,reconstruct", True), ("reconstruct,mixed-precision", False)):
        steps = steps.replace("mixed-precision", "mixed-precision{max_drop=0 only=[fc2] images=4}").replace(
            "reconstruct", "reconstruct{iterations=3}"
        )
        after = pipeline(f"quantize{{percentile=60 method=percentile}},{steps}").run(before, placing())
        (fc2,) = [node for node in after.calls(aten.linear.default) if node.meta["path"] == "mlp.fc2"]
        weight = after.constant(fc2.args[1])
        assert weight is not None, f"{steps}: fc2 did not fall back"
        assert torch.equal(weight, original) is same
