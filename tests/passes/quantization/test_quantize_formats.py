"""INT4 and FP8 pairs: what the text says, which codes weights become, and which target refuses what and why."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.harness import body, hold_to_text, run
from tests.passes.quantization.test_quantize import block, context, with_pairs
from vitgraph.errors import InputError
from vitgraph.images.calibration_data import UnopenedImages
from vitgraph.ir import dialect
from vitgraph.ir.calls import AttentionCall
from vitgraph.ir.formats import FORMATS
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.ir.program_file import load, save
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.precision.assign_precision import AssignPrecision
from vitgraph.passes.quantization.materialize import Materialize
from vitgraph.passes.quantization.quantize import Quantize
from vitgraph.targets.target import all_targets, get_target

W4A8 = Quantize(weight_format="int4")
W4A4 = Quantize(weight_format="int4", activation_format="int4")
FP8 = Quantize(weight_format="fp8", activation_format="fp8")
W4A16 = Quantize(weight_format="int4", activation_format="float")
W4_GROUPS = Quantize(weight_format="int4", activation_format="float", group=16)


def marked(text: str, where: str, name: str) -> str:
    """The pairs whose call matches `where`, in this format."""
    return re.sub(rf"(fake_quantize\.default\((?:{where}))\)", rf"\1, '{name}')", text)


WEIGHT, INPUT, ANY = r"w2?, w\w+, 0", r"[xm], \w+, None", r"\w+, \w+, (?:0|None)"


@pytest.mark.parametrize(
    ("step", "after"),
    [
        pytest.param(W4A8, marked(with_pairs(attention=True), WEIGHT, "int4"), id="w4a8"),
        pytest.param(W4A4, marked(marked(with_pairs(attention=True), WEIGHT, "int4"), INPUT, "int4"), id="w4a4"),
        pytest.param(
            FP8, marked(with_pairs(attention=True), ANY, "fp8").replace("0.25, ps)", "0.25, ps, 'fp8')"), id="fp8"
        ),
    ],
)
def test_where_each_format_stands(step: Quantize, after: str) -> None:
    program = parse(block())
    result = run(step, program, context(target=None))
    assert body(show(result)) == body(show(parse(after)))
    hold_to_text(result)


def test_weights_alone_need_no_images() -> None:
    images, found = Context(get_target("a100")), Context(get_target("a100"))
    result = run(W4A16, parse(block()), images)
    assert [node.args[2:] for node in result.calls(dialect.fake_quantize)] == [(0, "int4")] * 2
    run(W4_GROUPS, parse(block()), found)
    assert found.refusals == []


def test_groups_have_a_scale_each_and_odd_ones_are_refused() -> None:
    result = run(W4_GROUPS, parse(block()), Context())
    pairs = result.calls(dialect.fake_quantize)
    assert [result.constant(pair.args[1]).shape for pair in pairs] == [(96, 2), (32, 2)]  # type: ignore[union-attr]
    assert [pair.args[2:] for pair in pairs] == [(1, "int4")] * 2
    found = Context()
    run(Quantize(weight_format="int4", activation_format="float", group=24), parse(block()), found)
    assert [(each.site, each.why) for each in found.refusals] == [
        (site, "32 inputs are no multiple of 24 (group=24)") for site in ("attn.qkv", "attn.proj")
    ]


CONVOLUTION = """
x: f32[N, 4, 8, 8] = input()
w: f32[8, 4, 3, 3] = weight("w")
y: f32[N, 8, 6, 6] = aten.conv2d.default(x, w, None, [1, 1], [0, 0], [1, 1], 1)  # stem
return_(y)
"""


@pytest.mark.parametrize(
    ("step", "target", "why"),
    [
        (Quantize(weight_format="int4", only=("*",)), "a100", "a100 has no convolution of int4 weights with int8"),
        (
            Quantize(weight_format="fp8", activation_format="fp8", only=("*",)),
            "rtx-ada",
            "rtx-ada has no convolution of fp8 weights",
        ),
        (
            Quantize(weight_format="int4", activation_format="float", group=4, only=("*",)),
            None,
            "a convolution has no groups of weights (group=4)",
        ),
    ],
)
def test_a_convolution_is_left_in_floating_point_with_the_reason(step: Quantize, target: str | None, why: str) -> None:
    given = Context(get_target(target) if target else None, calibration=Pixels())
    result = run(step, parse(CONVOLUTION), given)
    assert result.calls(dialect.fake_quantize) == []
    (refusal,) = given.refusals
    assert refusal.site == "stem"
    assert why in refusal.why
    without = Context(None, calibration=Pixels())  # what refused it was the target, or the group
    if step.group is None:
        assert len(run(step, parse(CONVOLUTION), without).calls(dialect.fake_quantize)) == 2


class Pixels:
    """Two seeded images."""

    def __len__(self) -> int:
        return 2

    def batches(self, size: int) -> Any:
        yield torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), None


LACKING = [
    (FP8, "a100", "a100 has no product of fp8 weights with fp8 activations: the builder refuses FP8 for sm_80"),
    (FP8, "orin-agx", "8.7 has no FP8 arithmetic"),
    (FP8, "rtx-turing", "refuses FP8 for sm_75"),
    (W4A8, "rtx-turing", "refuses INT4 for sm_75"),
    (W4A4, "a100", "NVIDIA's Model Optimizer lists INT4 for weights alone; take one it has (int8 x int8, int4 x int8"),
    (W4A4, "rtx-blackwell", "those without such units among them"),
    (Quantize(weight_format="int4", group=16), "a100", "fails on a scale for each group of weights where activations"),
]


@pytest.mark.parametrize(("step", "target", "why"), LACKING)
def test_a_target_without_the_format_refuses_before_any_work(step: Quantize, target: str, why: str) -> None:
    with pytest.raises(InputError, match="pass 'quantize'.*" + re.escape(why)):
        run(step, parse(block()), Context(get_target(target), calibration=UnopenedImages()))  # which none may open
    run(step, parse(block()), context(target="cpu"))


HAVING = [(FP8, "h200"), (FP8, "rtx-ada"), (W4A8, "a100"), (W4A8, "orin-agx"), (W4_GROUPS, "a100"), (W4A4, "cpu")]


@pytest.mark.parametrize(("step", "target"), HAVING)
def test_a_target_with_the_format_takes_it(step: Quantize, target: str) -> None:
    step.check(get_target(target), Pixels())
    assert pipeline(str(pipeline_of(step))).passes == (step,)


def pipeline_of(step: Quantize) -> Any:
    from vitgraph.pass_manager.pipeline import Pipeline

    return Pipeline((step,))


@pytest.mark.parametrize("target", all_targets(), ids=lambda target: target.name)
def test_every_product_a_target_lacks_has_a_reason_of_its_own(target: Any) -> None:
    every = get_target("cpu").quantized.types
    for product in every:
        weights, activations = product.split(" x ")
        for kind in ("types", "grouped", "convolutions"):
            why = target.quantized.refusal(weights, activations, kind)
            assert (why is None) == (product in getattr(target.quantized, kind))
            if kind == "types":
                assert why is None or "not among" not in why


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (Quantize(weight_format="fp8"), "no kernel multiplies fp8 weights with int8 activations"),
        (Quantize(weight_format="int8", activation_format="fp8"), "take int8 with int8, int4 with int8"),
        (Quantize(group=8, per_tensor=True), "one scale or one a group"),
        (Quantize(weight_format="fp8", activation_format="fp8", method="entropy"), "fp8 does not have"),
    ],
)
def test_options_that_contradict_each_other(step: Quantize, why: str) -> None:
    with pytest.raises(InputError, match=why):
        run(step, parse(block()), context(target=None))


def test_int4_attention_is_int8_and_fp8_attention_asks_its_own_kernel() -> None:
    result = run(W4A4, parse(block()), context(target=None))
    (attention,) = result.calls(dialect.attention)
    assert AttentionCall(attention).probability_format is FORMATS["int8"]
    found = context(tokens=5, target="rtx-ada")
    result = run(FP8, parse(block()), found)
    (attention,) = result.calls(dialect.attention)
    assert AttentionCall(attention).probability_format is None
    assert [each.why for each in found.refusals] == ["5 token(s), fewer than 27"]


def codes_of(step: Quantize) -> tuple[Program, dict[str, Tensor]]:
    program = run(Materialize(), run(step, parse(block()), context(target="cpu")))
    return program, {name: tensor for name, tensor in program.tensors().items() if tensor.element_size() == 1}


@pytest.mark.parametrize(
    ("step", "suffix", "dtype", "high"),
    [(W4A8, "int4", torch.int8, 7), (FP8, "fp8", torch.float8_e4m3fn, 448), (W4_GROUPS, "int4", torch.int8, 7)],
)
def test_materialized_weights_are_codes(step: Quantize, suffix: str, dtype: torch.dtype, high: float) -> None:
    before = run(step, parse(block()), context(target="cpu"))
    program, codes = codes_of(step)
    assert [name.rpartition("_")[2] for name in codes] == [suffix, suffix]
    for tensor in codes.values():
        assert tensor.dtype == dtype
        assert float(tensor.float().abs().max()) == high
    hold_to_text(program)
    x = torch.randn(2, 5, 32)
    assert torch.equal(program.run(x), before.run(x))


def test_codes_on_the_grid_are_found_again() -> None:
    """Negative control of the test above: a code moved by one gives another output."""
    program, codes = codes_of(W4A8)
    x = torch.randn(2, 5, 32)
    was = program.run(x).clone()
    codes["proj.weight_int4"].add_(1)
    assert not torch.equal(program.run(x), was)


WEIGHT_ALONE = """
x: f32[N, 8] = input()
x16: f16[N, 8] = aten.to.dtype(x, f16)
w: f16[6, 8] = weight("w_f16")
s: f16[6] = constant("w_scale_f16")
wq: f16[6, 8] = vitgraph.fake_quantize.default(w, s, 0, 'int4')
y: f16[N, 6] = aten.linear.default(x16, wq, None)
y32: f32[N, 6] = aten.to.dtype(y, f32)
return_(y32)
"""


def test_a_product_with_a_float_input_is_dequantized_to_half_precision() -> None:
    before = """
x: f32[N, 8] = input()
w: f32[6, 8] = weight("w")
s: f32[6] = constant("w_scale")
wq: f32[6, 8] = vitgraph.fake_quantize.default(w, s, 0, 'int4')
y: f32[N, 6] = aten.linear.default(x, wq, None)
return_(y)
"""
    tensors = {"w": torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), "w_scale": torch.full((6,), 0.25)}
    program = parse(before, tensors)
    result = run(AssignPrecision(), program, Context())
    assert body(show(result)) == body(show(parse(WEIGHT_ALONE)))
    x = torch.randn(3, 8)
    torch.testing.assert_close(result.run(x), program.run(x), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("step", [W4A8, FP8, W4_GROUPS])
def test_a_saved_program_is_the_same(step: Quantize, tmp_path: Path) -> None:
    program, _ = codes_of(step)
    save(program, tmp_path / "program.safetensors")
    again = load(tmp_path)
    assert show(again) == show(program)
    x = torch.randn(2, 5, 32)
    assert torch.equal(again.run(x), program.run(x))


def test_a_second_run_changes_nothing() -> None:
    once = run(FP8, parse(block()), context(target="cpu"))
    again = context(target="cpu")
    assert show(run(FP8, once, again)) == show(once)
    assert {each.why for each in again.refusals if "output" not in each.why} == {"it is quantized already"}
