"""A pointwise convolution's input is centred and its bias makes up for it."""

from typing import Any

import pytest
import torch

from tests.harness import check, hold_to_effect, run
from tests.passes.quantization.test_channel_migrate import Noise
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes.quantization.absorb_shifts import AbsorbShifts
from vitgraph.passes.quantization.filter_shift import FilterShift
from vitgraph.passes.quantization.quantize import Quantize

SECOND = """
x: f32[N, 4, 6, 6] = input()
w: f32[4, 1, 3, 3] = weight("dw.weight")
d: f32[N, 4, 6, 6] = aten.conv2d.default(x, w, None, [1, 1], [1, 1], [1, 1], 4)  # dw
a: f32[N, 4, 6, 6] = aten.hardswish.default(d)
v: f32[5, 4, 1, 1] = weight("pw.weight")
b: f32[5] = weight("pw.bias")
y: f32[N, 5, 6, 6] = aten.conv2d.default(a, v, b, [1, 1], [0, 0], [1, 1], 1)  # pw
return_(y)
"""
SHIFTED = """
x: f32[N, 4, 6, 6] = input()
w: f32[4, 1, 3, 3] = weight("dw.weight")
d: f32[N, 4, 6, 6] = aten.conv2d.default(x, w, None, [1, 1], [1, 1], [1, 1], 4)  # dw
a: f32[N, 4, 6, 6] = aten.hardswish.default(d)
z: f32[4, 1, 1] = constant("pw.weight_centre")
s: f32[N, 4, 6, 6] = aten.sub.Tensor(a, z)
v: f32[5, 4, 1, 1] = weight("pw.weight")
b: f32[5] = weight("pw.bias_shifted")
y: f32[N, 5, 6, 6] = aten.conv2d.default(s, v, b, [1, 1], [0, 0], [1, 1], 1)  # pw
return_(y)
"""


def calibrated() -> Context:
    return Context(calibration=Noise())


def test_centres_what_the_second_pointwise_convolution_reads() -> None:
    (refusal,) = check(
        FilterShift(only=("pw",)), SHIFTED.replace("_centre", "_x"), SHIFTED.replace("_centre", "_x"), calibrated()
    )
    assert "shifted already" in refusal.why
    assert check(FilterShift(), SECOND, SHIFTED, calibrated()) == []


def test_a_missing_bias_is_made() -> None:
    text = SECOND.replace('b: f32[5] = weight("pw.bias")\n', "").replace("v, b,", "v, None,")
    after = SHIFTED.replace("pw.bias_shifted", "pw.weight_shift")
    check(FilterShift(), text, after, calibrated())


def test_the_bias_is_that_of_the_paper() -> None:
    program, images = parse(SECOND), Noise()
    result = run(FilterShift(), program, Context(calibration=images))
    hidden = torch.nn.functional.hardswish(
        torch.nn.functional.conv2d(images.values, program.tensor("dw.weight"), padding=1, groups=4)
    )
    z = (hidden.amax((0, 2, 3)) + hidden.amin((0, 2, 3))) / 2
    torch.testing.assert_close(result.tensor("pw.weight_centre").flatten(), z)
    expected = program.tensor("pw.bias") + program.tensor("pw.weight").flatten(1) @ z
    torch.testing.assert_close(result.tensor("pw.bias_shifted"), expected)


def test_an_old_bias_would_be_noticed() -> None:
    program = parse(SECOND)
    result = run(FilterShift(), program, calibrated())
    wrong: Any = {**result.tensors(), "pw.bias_shifted": program.tensor("pw.bias")}
    with pytest.raises(AssertionError, match="declared reorders"):
        hold_to_effect(FilterShift(), program, parse(str(result), wrong))


def test_it_halves_the_step() -> None:
    """The point of it: on what comes out of an activation, one side of a symmetric grid is hardly used."""
    step = Quantize(only=("pw",), method="minmax")
    plain, shifted = (
        Pipeline(steps).run(parse(SECOND), calibrated()).tensor("pw.input_scale")
        for steps in ((step,), (FilterShift(), step))
    )
    assert float(shifted) < 0.6 * float(plain)


def test_the_bias_makes_up_for_the_rounded_weights() -> None:
    """What was taken from the input comes back through weights that were rounded since: so must the bias."""
    program, images = parse(SECOND), Noise()
    steps = Pipeline((FilterShift(), Quantize(only=("pw",)), AbsorbShifts()))
    result = steps.run(program, Context(calibration=images))
    (site,) = [node for node in result.calls(torch.ops.aten.conv2d.default) if node.meta["path"] == "pw"]
    weight: Any = site.args[1]
    rounded = dialect.fake_quantize(*(result.constant(each) for each in weight.args[:2]), 0)
    moved = rounded.flatten(1) @ result.tensor("pw.weight_centre").flatten()
    torch.testing.assert_close(result.constant(site.args[2]), program.tensor("pw.bias") + moved)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("aten.hardswish.default(d)", "aten.add.Tensor(d, x)"), "depthwise convolution's activation"),
        (("v, b, [1, 1], [0, 0]", "v, b, [1, 1], [1, 1]"), "pads its input"),
        (("v: f32[5, 4, 1, 1]", "v: f32[5, 4, 3, 3]"), "depthwise convolution's activation"),
    ],
)
def test_what_is_left_alone(change: tuple[str, str], why: str) -> None:
    text = SECOND.replace(*change)
    if "3, 3]" in change[1]:
        text = text.replace("v, b, [1, 1], [0, 0]", "v, b, [1, 1], [1, 1]")
    if "pads" in why:
        text = text.replace("y: f32[N, 5, 6, 6]", "y: f32[N, 5, 8, 8]")
    (refusal,) = check(FilterShift(only=("pw",)), text, text, calibrated())
    assert why in refusal.why


def test_a_first_pointwise_convolution_is_none_of_its_business() -> None:
    text = SECOND.replace("[1, 1], [1, 1], [1, 1], 4)", "[1, 1], [1, 1], [1, 1], 1)").replace(
        "4, 1, 3, 3", "4, 4, 3, 3"
    )
    assert check(FilterShift(), text, text, calibrated()) == []


def test_without_images_it_says_what_to_give() -> None:
    with pytest.raises(InputError, match="--calibration-data"):
        FilterShift().run(parse(SECOND), Context())
