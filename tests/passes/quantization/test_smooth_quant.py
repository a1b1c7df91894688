from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.harness import body, check, hold_to_effect, run
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes.affine import TIED
from vitgraph.passes.quantization.quantize import Quantize
from vitgraph.passes.quantization.smooth_quant import SmoothQuant
from vitgraph.quantizing.calibration import observe_channels

AFTER_GELU = """
x: f32[N, 4, 8] = input()
w: f32[16, 8] = weight("fc1.weight")
linear: f32[N, 4, 16] = aten.linear.default(x, w, None)  # fc1
gelu: f32[N, 4, 16] = aten.gelu.default(linear)
w2: f32[8, 16] = weight("fc2.weight")
b2: f32[8] = weight("fc2.bias")
linear_1: f32[N, 4, 8] = aten.linear.default(gelu, w2, b2)  # fc2
add: f32[N, 4, 8] = aten.add.Tensor(linear_1, x)
return_(add)
"""
SMOOTHED = """
x: f32[N, 4, 8] = input()
fc1_weight: f32[16, 8] = weight("fc1.weight")
linear: f32[N, 4, 16] = aten.linear.default(x, fc1_weight, None)  # fc1
gelu: f32[N, 4, 16] = aten.gelu.default(linear)
fc2_input_smooth: f32[16] = constant("fc2.input_smooth")
mul: f32[N, 4, 16] = aten.mul.Tensor(gelu, fc2_input_smooth)
fc2_input_shift: f32[16] = constant("fc2.input_shift")
sub: f32[N, 4, 16] = aten.sub.Tensor(mul, fc2_input_shift)
fc2_weight_smoothed: f32[8, 16] = weight("fc2.weight_smoothed")
fc2_bias_smoothed: f32[8] = weight("fc2.bias_smoothed")
linear_1: f32[N, 4, 8] = aten.linear.default(sub, fc2_weight_smoothed, fc2_bias_smoothed)  # fc2
add: f32[N, 4, 8] = aten.add.Tensor(linear_1, x)
return_(add)
"""
AFTER_NORM = """
x: f32[N, 4, 8] = input()
gamma: f32[8] = weight("norm.weight")
beta: f32[8] = weight("norm.bias")
layer_norm: f32[N, 4, 8] = aten.layer_norm.default(x, [8], gamma, beta, 1e-06)  # norm
w: f32[16, 8] = weight("fc1.weight")
linear: f32[N, 4, 16] = aten.linear.default(layer_norm, w, None)  # fc1
gelu: f32[N, 4, 16] = aten.gelu.default(linear)
return_(gelu)
"""


class Noise:
    """Images of a shape, one channel of which is far larger than the others."""

    def __init__(self, *shape: int, outlier: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(0)
        self.values = torch.randn(6, *shape, generator=generator)
        self.values[..., 3] *= outlier

    def __len__(self) -> int:
        return len(self.values)

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, None]]:
        yield from ((self.values[first : first + size], None) for first in range(0, len(self), size))


def calibrated(outlier: float = 1.0) -> Context:
    return Context(calibration=Noise(4, 8, outlier=outlier))


def test_after_an_activation_the_product_stays_in_the_graph() -> None:
    program = parse(AFTER_GELU)
    smoothed = Pipeline((SmoothQuant(only=("fc2",), shift=True),)).run(program, calibrated())
    assert str(smoothed).splitlines()[2:] == SMOOTHED.strip().splitlines()
    x = torch.randn(2, 4, 8)
    torch.testing.assert_close(smoothed.run(x), program.run(x))


def test_after_a_layer_norm_the_factor_goes_into_the_norm() -> None:
    program = parse(AFTER_NORM)
    smoothed = Pipeline((SmoothQuant(),)).run(program, calibrated())
    assert "aten.mul.Tensor" not in str(smoothed)
    assert {"norm.weight_smoothed", "norm.bias_smoothed", "fc1.weight_smoothed"} <= set(smoothed.tensors())
    x = torch.randn(2, 4, 8)
    torch.testing.assert_close(smoothed.run(x), program.run(x))


def test_the_factors_are_smoothquants() -> None:
    program, images = parse(AFTER_NORM), Noise(4, 8)
    smoothed = Pipeline((SmoothQuant(alpha=0.5),)).run(program, Context(calibration=images))
    norm = torch.nn.functional.layer_norm(
        images.values, [8], program.tensor("norm.weight"), program.tensor("norm.bias"), 1e-6
    )
    weight = program.tensor("fc1.weight").abs().amax(0)
    expected = (norm.abs().flatten(0, 1).amax(0) / weight).sqrt()
    torch.testing.assert_close(
        smoothed.tensor("fc1.weight_smoothed") / program.tensor("fc1.weight"), expected.expand(16, 8)
    )


def test_it_helps_where_a_channel_stands_out() -> None:
    """The point of it: the same linear, quantized with and without, one channel large and its weights small."""
    drawn = parse(AFTER_NORM).tensors()
    loud, faint = drawn["norm.weight"].detach().clone(), drawn["fc1.weight"].detach().clone()
    loud[3], faint[:, 3] = 300.0, 0.001
    program = parse(AFTER_NORM, {**drawn, "norm.weight": loud, "fc1.weight": faint})
    x = torch.randn(16, 4, 8)
    wanted = program.run(x)
    plain, smooth = (
        Pipeline(steps).run(program, calibrated()).run(x) for steps in ((Quantize(),), (SmoothQuant(), Quantize()))
    )
    assert (smooth - wanted).norm() < 0.2 * (plain - wanted).norm()


def test_too_few_rows_are_refused() -> None:
    text = AFTER_NORM.replace("N, 4,", "N, 2,")
    (refusal,) = check(SmoothQuant(), text, text, Context(calibration=Noise(2, 8)))
    assert "12 rows" in refusal.why


def test_what_others_read_too_is_refused() -> None:
    text = AFTER_NORM.replace(
        "return_(gelu)", "add: f32[N, 4, 8] = aten.add.Tensor(layer_norm, x)\nreturn_([gelu, add])"
    )
    (refusal,) = check(SmoothQuant(), text, text, calibrated())
    assert "others read its input too" in refusal.why


def test_the_input_of_proj_is_left_to_the_attention() -> None:
    text = """
x: f32[N, 2, 4, 8] = input()
attention: f32[N, 2, 4, 8] = vitgraph.attention.default(x, x, x, None, 0.25)
permute: f32[N, 4, 2, 8] = aten.permute.default(attention, [0, 2, 1, 3])
reshape: f32[N, 4, 16] = aten.reshape.default(permute, [-1, 4, 16])
proj_weight: f32[16, 16] = weight("proj.weight")
linear: f32[N, 4, 16] = aten.linear.default(reshape, proj_weight, None)  # proj
add: f32[N, 4, 16] = aten.add.Tensor(linear, reshape)
return_(add)
"""
    single = text.replace("add: f32[N, 4, 16] = aten.add.Tensor(linear, reshape)\nreturn_(add)", "return_(linear)")
    context = Context(calibration=Noise(2, 4, 8))
    (refusal,) = check(SmoothQuant(only=("proj",)), single, single, context)
    assert "attention" in refusal.why


def test_without_images_it_says_what_to_give() -> None:
    with pytest.raises(InputError, match="--calibration-data"):
        SmoothQuant().run(parse(AFTER_NORM), Context())


def test_the_shift_centres_what_an_activation_puts_out() -> None:
    """GELU reaches from -0.17 to far above: shifted, what is quantized lies evenly around zero, channel by channel."""
    program, images = parse(AFTER_GELU), Noise(4, 8)
    smoothed = Pipeline((SmoothQuant(only=("fc2",), alpha=1.0, shift=True),)).run(program, Context(calibration=images))
    (centred,) = smoothed.calls(aten.sub.Tensor)
    (seen,) = observe_channels(smoothed, [centred], images)
    torch.testing.assert_close(seen.least, -torch.ones(16))  # alpha = 1: the near end of every channel is the last step
    assert (seen.most < 1).all()  # the far end has room for images not seen
    assert seen.most.max() > 0.5


def test_without_a_bias_there_is_no_shift() -> None:
    text = AFTER_GELU.replace("gelu, w2, b2", "gelu, w2, None").replace('b2: f32[8] = weight("fc2.bias")\n', "")
    program = parse(text)
    smoothed = Pipeline((SmoothQuant(only=("fc2",), shift=True),)).run(program, calibrated())
    assert not smoothed.calls(aten.sub.Tensor)
    x = torch.randn(2, 4, 8)
    torch.testing.assert_close(smoothed.run(x), program.run(x))


THREE_READERS = AFTER_NORM.replace(
    "gelu: f32",
    """w2: f32[16, 8] = weight("gate.weight")
b2: f32[16] = weight("gate.bias")
moved: f32[4*N, 8] = aten.reshape.default(layer_norm, [-1, 8])
back: f32[N, 4, 8] = aten.reshape.default(moved, [-1, 4, 8])
gate: f32[N, 4, 16] = aten.linear.default(back, w2, b2)  # gate
gelu: f32""",
).replace("aten.gelu.default(linear)\nreturn_(gelu)", "aten.gelu.default(linear)\nreturn_([gelu, gate])")


def test_linears_that_share_a_norm_share_its_factors() -> None:
    """Also where one reads it through moves; the weights of both count, so that neither gets rows beyond its reach."""
    program = parse(THREE_READERS)
    smoothed = Pipeline((SmoothQuant(only=("fc1", "gate")),)).run(program, calibrated())
    assert {"norm.weight_smoothed", "fc1.weight_smoothed", "gate.weight_smoothed"} <= set(smoothed.tensors())
    assert not smoothed.calls(aten.mul.Tensor)
    x = torch.randn(2, 4, 8)
    for ours, theirs in zip(smoothed.run(x), program.run(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_move_that_takes_channels_away_keeps_the_factors_out_of_the_norm() -> None:
    text = AFTER_NORM.replace(
        "w: f32[16, 8]", "half: f32[N, 4, 4] = aten.slice.Tensor(layer_norm, 2, 0, 4, 1)\nw: f32[16, 4]"
    ).replace("linear.default(layer_norm", "linear.default(half")
    program = parse(text)
    smoothed = Pipeline((SmoothQuant(),)).run(program, calibrated())
    assert "norm.weight_smoothed" not in smoothed.tensors()
    assert len(smoothed.calls(aten.mul.Tensor)) == 1
    x = torch.randn(2, 4, 8)
    torch.testing.assert_close(smoothed.run(x), program.run(x))


def test_a_masked_weight_keeps_its_mask() -> None:
    text = AFTER_NORM.replace(
        "linear: f32",
        'keep: bool[16, 8] = constant("fc1.mask")\nwm: f32[16, 8] = vitgraph.mask.default(w, keep)\nlinear: f32',
    ).replace("aten.linear.default(layer_norm, w, None)", "aten.linear.default(layer_norm, wm, None)")
    program = parse(text)
    smoothed = Pipeline((SmoothQuant(),)).run(program, calibrated())
    assert len(smoothed.calls(dialect.mask)) == 1
    x = torch.randn(2, 4, 8)
    torch.testing.assert_close(smoothed.run(x), program.run(x))


def test_a_weight_that_another_linear_reads_too_takes_no_factor() -> None:
    """Blocks that are run several times: a factor for each would store the weight as often."""
    text = AFTER_GELU.replace("# fc2\n", "# fc2\nlinear_2: f32[N, 4, 8] = aten.linear.default(gelu, w2, b2)\n")
    text = text.replace("add.Tensor(linear_1, x)", "add.Tensor(linear_1, linear_2)")
    context = calibrated()
    result = run(SmoothQuant(only=("fc2",)), parse(text), context)
    assert [name for name in result.tensors() if "fc2.weight" in name] == ["fc2.weight"]
    assert {refusal.why for refusal in context.refusals} == {TIED}


CONVOLUTION = """
x: f32[N, 8, 4, 4] = input()
w: f32[16, 8, 1, 1] = weight("fc1.weight")
linear: f32[N, 16, 4, 4] = aten.conv2d.default(x, w, None, [1, 1], [0, 0], [1, 1], 1)  # fc1
gelu: f32[N, 16, 4, 4] = aten.gelu.default(linear)
w2: f32[8, 16, 1, 1] = weight("fc2.weight")
b2: f32[8] = weight("fc2.bias")
linear_1: f32[N, 8, 4, 4] = aten.conv2d.default(gelu, w2, b2, [1, 1], [0, 0], [1, 1], 1)  # fc2
add: f32[N, 8, 4, 4] = aten.add.Tensor(linear_1, x)
return_(add)
"""
SMOOTHED_CONVOLUTION = """
x: f32[N, 8, 4, 4] = input()
fc1_weight: f32[16, 8, 1, 1] = weight("fc1.weight")
linear: f32[N, 16, 4, 4] = aten.conv2d.default(x, fc1_weight, None, [1, 1], [0, 0], [1, 1], 1)  # fc1
gelu: f32[N, 16, 4, 4] = aten.gelu.default(linear)
fc2_input_smooth: f32[16, 1, 1] = constant("fc2.input_smooth")
mul: f32[N, 16, 4, 4] = aten.mul.Tensor(gelu, fc2_input_smooth)
fc2_input_shift: f32[16, 1, 1] = constant("fc2.input_shift")
sub: f32[N, 16, 4, 4] = aten.sub.Tensor(mul, fc2_input_shift)
fc2_weight_smoothed: f32[8, 16, 1, 1] = weight("fc2.weight_smoothed")
fc2_bias_smoothed: f32[8] = weight("fc2.bias_smoothed")
linear_1: f32[N, 8, 4, 4] = aten.conv2d.default(sub, fc2_weight_smoothed, fc2_bias_smoothed, [1, 1], [0, 0], [1, 1], 1)  # fc2
add: f32[N, 8, 4, 4] = aten.add.Tensor(linear_1, x)
return_(add)
"""


@pytest.mark.parametrize("options", [{}, {"alpha": 0.5, "shift": True}], ids=["auto", "given"])
def test_a_convolution_at_each_position_has_its_channels_ahead_of_rows_and_columns(options: dict[str, Any]) -> None:
    program, step = parse(CONVOLUTION), SmoothQuant(only=("fc2",), **options)
    smoothed = run(step, program, Context(calibration=Noise(8, 4, 4)))
    assert body(show(smoothed)) == body(show(parse(SMOOTHED_CONVOLUTION)))
    hold_to_effect(step, program, smoothed)


def test_it_lowers_the_error_of_a_convolution_with_an_outlier_channel() -> None:
    """As that of a linear: one channel is far larger, and its scale would serve all."""
    drawn = parse(CONVOLUTION).tensors()
    weight = drawn["fc1.weight"].detach().clone()
    weight[5] *= 100
    program, images = parse(CONVOLUTION, {**drawn, "fc1.weight": weight}), Noise(8, 4, 4)
    wanted = program.run(images.values)
    errors = [
        float((Pipeline(steps).run(program, Context(calibration=images)).run(images.values) - wanted).square().mean())
        for steps in ((Quantize(only=("fc2",)),), (SmoothQuant(only=("fc2",)), Quantize(only=("fc2",))))
    ]
    assert errors[1] < 0.2 * errors[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[8, 16, 1, 1]", "[8, 16, 3, 3]"),
        ("(gelu, w2, b2, [1, 1], [0, 0]", "(gelu, w2, b2, [2, 2], [0, 0]"),
    ],
    ids=["a window", "a stride"],
)
def test_other_convolutions_are_left_with_the_reason(old: str, new: str) -> None:
    text = CONVOLUTION.replace(old, new).replace("aten.add.Tensor(linear_1, x)", "aten.relu.default(linear_1)")
    if "3, 3" in new:
        text = text.replace("b2, [1, 1], [0, 0]", "b2, [1, 1], [1, 1]")
    else:
        text = text.replace("8, 4, 4] = aten.conv2d.default(gelu", "8, 2, 2] = aten.conv2d.default(gelu")
        text = text.replace("add: f32[N, 8, 4, 4]", "add: f32[N, 8, 2, 2]")
    refused = check(SmoothQuant(only=("fc2",)), text, text, Context(calibration=Noise(8, 4, 4)))
    assert [each.why for each in refused] == ["it is a convolution of windows, of some positions, or without a batch"]
