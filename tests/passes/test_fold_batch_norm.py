import pytest

from tests.harness import check, run
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.fold_batch_norm import FoldBatchNorm

BEFORE = """
x: f32[N, 4, 6, 6] = input()
w: f32[8, 2, 3, 3] = weight("conv.weight")
conv2d: f32[N, 8, 4, 4] = aten.conv2d.default(x, w, None, [1, 1], [0, 0], [1, 1], 2)
gamma: f32[8] = weight("bn.weight")
beta: f32[8] = weight("bn.bias")
mean: f32[8] = constant("bn.running_mean")
batch_norm: f32[N, 8, 4, 4] = aten.batch_norm.default(conv2d, gamma, beta, mean, gamma, False, 0.1, 1.0, False)
return_(batch_norm)
"""
AFTER = """
x: f32[N, 4, 6, 6] = input()
conv_weight_1: f32[8, 2, 3, 3] = weight("conv.weight_1")
conv_bias: f32[8] = weight("conv.bias")
conv2d: f32[N, 8, 4, 4] = aten.conv2d.default(x, conv_weight_1, conv_bias, [1, 1], [0, 0], [1, 1], 2)
return_(conv2d)
"""
CONSUMED = """
x: f32[N, 4, 6, 6] = input()
gamma: f32[4] = weight("bn.weight")
beta: f32[4] = weight("bn.bias")
mean: f32[4] = constant("bn.running_mean")
batch_norm: f32[N, 4, 6, 6] = aten.batch_norm.default(x, gamma, beta, mean, gamma, False, 0.1, 1.0, False)
w: f32[8, 2, 3, 3] = weight("conv.weight")
b: f32[8] = weight("conv.bias")
conv2d: f32[N, 8, 4, 4] = aten.conv2d.default(batch_norm, w, b, [1, 1], [0, 0], [1, 1], 2)
return_(conv2d)
"""
LINEAR = """
x: f32[N, 16, 4] = input()
w: f32[8, 4] = weight("fc.weight")
linear: f32[N, 16, 8] = aten.linear.default(x, w, None)
reshape: f32[16*N, 8] = aten.reshape.default(linear, [-1, 8])
gamma: f32[8] = weight("bn.weight")
mean: f32[8] = constant("bn.running_mean")
batch_norm: f32[16*N, 8] = aten.batch_norm.default(reshape, None, None, mean, gamma, False, 0.1, 1.0, False)
return_(batch_norm)
"""


def test_folds_into_the_convolution_before() -> None:
    assert check(FoldBatchNorm(), BEFORE, AFTER) == []


def test_folds_into_the_convolution_after_by_groups() -> None:
    after = AFTER.replace('conv_bias: f32[8] = weight("conv.bias")', 'conv_bias_1: f32[8] = weight("conv.bias_1")')
    after = after.replace("conv_bias,", "conv_bias_1,")
    assert check(FoldBatchNorm(), CONSUMED, after) == []


def test_folds_into_a_linear_layer_through_a_reshape() -> None:
    after = """
x: f32[N, 16, 4] = input()
fc_weight_1: f32[8, 4] = weight("fc.weight_1")
fc_bias: f32[8] = weight("fc.bias")
linear: f32[N, 16, 8] = aten.linear.default(x, fc_weight_1, fc_bias)
reshape: f32[16*N, 8] = aten.reshape.default(linear, [-1, 8])
return_(reshape)
"""
    assert check(FoldBatchNorm(), LINEAR, after) == []


@pytest.mark.parametrize(
    ("back", "end"),
    [
        ("back: f32[N, 16, 8] = aten.reshape.default(batch_norm, [-1, 16, 8])", "return_(linear)"),
        (
            "back: f32[N, 16, 2, 4] = aten.reshape.default(batch_norm, [-1, 16, 2, 4])",
            "back: f32[N, 16, 2, 4] = aten.reshape.default(linear, [-1, 16, 2, 4])\nreturn_(back)",
        ),
    ],
)
def test_what_was_reshaped_for_the_norm_is_reshaped_no_more(back: str, end: str) -> None:
    after = f"""
x: f32[N, 16, 4] = input()
fc_weight_1: f32[8, 4] = weight("fc.weight_1")
fc_bias: f32[8] = weight("fc.bias")
linear: f32[N, 16, 8] = aten.linear.default(x, fc_weight_1, fc_bias)
{end}
"""
    check(FoldBatchNorm(), LINEAR.replace("return_(batch_norm)", f"{back}\nreturn_(back)"), after)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BEFORE.replace("return_(batch_norm)", "return_([batch_norm, conv2d])"), "used elsewhere"),
        (CONSUMED.replace("[1, 1], [0, 0]", "[1, 1], [1, 1]").replace("8, 4, 4]", "8, 6, 6]"), "pads"),
        (CONSUMED.replace("return_(conv2d)", "return_([conv2d, batch_norm])"), "used more than once"),
        (
            BEFORE.replace('w: f32[8, 2, 3, 3] = weight("conv.weight")', "w: f32[8, 2, 3, 3] = input()"),
            "weights that are computed",
        ),
    ],
)
def test_refuses_and_says_why(text: str, why: str) -> None:
    (refusal,) = check(FoldBatchNorm(), text, text)
    assert why in refusal.why


def test_stops_when_the_fuel_is_used_up() -> None:
    program = parse(BEFORE)
    context = Context(fuel=1)  # the pipeline's own unit
    assert str(run(FoldBatchNorm(), program, context)) == str(program)
