"""Factors move from a depthwise convolution's input into its filters: what it computes stays, its input is equalized."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import check, hold_to_effect, run
from vitgraph.errors import InputError
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes.quantization.channel_migrate import ChannelMigrate
from vitgraph.passes.quantization.quantize import Quantize
from vitgraph.quantizing.calibration import observe_channels

DEPTHWISE = """
x: f32[N, 4, 6, 6] = input()
a: f32[N, 4, 6, 6] = aten.hardswish.default(x)
w: f32[4, 1, 3, 3] = weight("dw.weight")
b: f32[4] = weight("dw.bias")
y: f32[N, 4, 6, 6] = aten.conv2d.default(a, w, b, [1, 1], [1, 1], [1, 1], 4)  # dw
return_(y)
"""
MIGRATED = """
x: f32[N, 4, 6, 6] = input()
a: f32[N, 4, 6, 6] = aten.hardswish.default(x)
m: f32[4, 1, 1] = constant("dw.weight_migrate")
even: f32[N, 4, 6, 6] = aten.mul.Tensor(a, m)
w: f32[4, 1, 3, 3] = weight("dw.weight_migrated")
b: f32[4] = weight("dw.bias")
y: f32[N, 4, 6, 6] = aten.conv2d.default(even, w, b, [1, 1], [1, 1], [1, 1], 4)  # dw
return_(y)
"""
AFTER_CONV = """
x: f32[N, 4, 6, 6] = input()
v: f32[4, 4, 1, 1] = weight("pw.weight")
c: f32[4] = weight("pw.bias")
p: f32[N, 4, 6, 6] = aten.conv2d.default(x, v, c, [1, 1], [0, 0], [1, 1], 1)  # pw
a: f32[N, 4, 6, 6] = aten.ACTIVATION.default(p)
w: f32[4, 1, 3, 3] = weight("dw.weight")
y: f32[N, 4, 6, 6] = aten.conv2d.default(a, w, None, [1, 1], [1, 1], [1, 1], 4)  # dw
return_(y)
"""
SPREAD = DEPTHWISE.replace("default(a, w", "default(s, w").replace(
    "w: f32", 'f: f32[1, 4, 1, 1] = constant("spread")\ns: f32[N, 4, 6, 6] = aten.mul.Tensor(a, f)\nw: f32', 1
)


class Noise:
    """Images whose channels reach differently far."""

    def __init__(self, reach: tuple[float, ...] = (8.0, 1.0, 0.2, 3.0), count: int = 12) -> None:
        noise = torch.randn(count, len(reach), 6, 6, generator=torch.Generator().manual_seed(2))
        self.values = noise * torch.tensor(reach).reshape(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.values)

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, None]]:
        yield from ((self.values[first : first + size], None) for first in range(0, len(self), size))


def calibrated(*reach: float) -> Context:
    return Context(calibration=Noise(reach) if reach else Noise())


def error(program: Program, plain: Program, context: Context, *steps: ChannelMigrate) -> float:
    """Relative L2 distance of the quantized program from the plain one."""
    x = Noise().values
    wanted = plain.run(x)
    found = Pipeline((*steps, Quantize(only=("depthwise",), method="minmax"))).run(program, context).run(x)
    return float((found - wanted).norm() / wanted.norm())


def test_after_hardswish_the_product_stays_in_the_graph() -> None:
    assert check(ChannelMigrate(), DEPTHWISE, MIGRATED, calibrated()) == []


def test_relu_lets_the_factors_through_to_the_convolution() -> None:
    text = AFTER_CONV.replace("ACTIVATION", "relu")
    after = text.replace("pw.weight", "pw.weight_migrated").replace("pw.bias", "pw.bias_migrated")
    check(ChannelMigrate(), text, after.replace("dw.weight", "dw.weight_migrated"), calibrated())


@pytest.mark.parametrize("activation", ["hardswish", "gelu"])
def test_other_activations_do_not(activation: str) -> None:
    program = parse(AFTER_CONV.replace("ACTIVATION", activation))
    result = run(ChannelMigrate(), program, calibrated())
    hold_to_effect(ChannelMigrate(), program, result)
    assert "aten.mul.Tensor" in str(result)
    assert "pw.weight" in result.tensors()


def test_through_an_activation_that_does_not_commute_the_check_would_object() -> None:
    """Negative control: the same move with hardswish in the place of ReLU."""
    relu = run(ChannelMigrate(), parse(AFTER_CONV.replace("ACTIVATION", "relu")), calibrated())
    wrong = parse(str(relu).replace("aten.relu", "aten.hardswish"), relu.tensors())
    right = parse(AFTER_CONV.replace("ACTIVATION", "hardswish"))
    with pytest.raises(AssertionError, match="declared reorders"):
        hold_to_effect(ChannelMigrate(), right, wrong)


def test_what_others_read_is_scaled_for_the_depthwise_alone() -> None:
    text = AFTER_CONV.replace("ACTIVATION", "relu").replace("return_(y)", "return_([y, a])")
    program = parse(text)
    result = run(ChannelMigrate(), program, calibrated())
    hold_to_effect(ChannelMigrate(), program, result)
    assert "pw.weight" in result.tensors()


def test_a_product_that_stands_there_takes_the_factor_in() -> None:
    tensors = {**parse(SPREAD).tensors(), "spread": torch.tensor([16.0, 1.0, 1 / 16, 4.0]).reshape(1, 4, 1, 1)}
    program = parse(SPREAD, tensors)
    result = run(ChannelMigrate(), program, calibrated())
    assert len([line for line in str(result).splitlines() if "aten.mul.Tensor" in line]) == 1
    assert result.tensor("spread_migrated").shape == (4, 1, 1)
    hold_to_effect(ChannelMigrate(), program, result)


def test_factors_of_the_paper() -> None:
    images, program = Noise((1000.0, 1.0, 0.01, 3.0)), parse(DEPTHWISE)
    values = torch.nn.functional.hardswish(images.values)
    tops = values.abs().amax((0, 2, 3))
    usual = max(float(values.abs().quantile(0.99)), float(tops.mean()))
    result = run(ChannelMigrate(least=0.1, most=64.0, range="max"), program, Context(calibration=images))
    expected = (tops / usual).clamp(0.1, 64.0)
    torch.testing.assert_close(1 / result.tensor("dw.weight_migrate").flatten(), expected, rtol=1e-2, atol=0)
    assert float(expected.min()) == pytest.approx(0.1)


def test_every_channel_ends_at_one_range() -> None:
    context = calibrated()
    result = run(ChannelMigrate(), parse(DEPTHWISE), context)
    assert context.calibration is not None
    (site,) = result.calls(torch.ops.aten.conv2d.default)
    (seen,) = observe_channels(result, [site.args[0]], context.calibration, axis=1)  # type: ignore[list-item]
    torch.testing.assert_close(seen.typical, seen.typical[:1].expand(4))


def test_a_channel_that_is_always_zero_keeps_its_filter() -> None:
    program = parse(DEPTHWISE)
    result = run(ChannelMigrate(), program, calibrated(8.0, 0.0, 0.2, 3.0))
    assert float(result.tensor("dw.weight_migrate").flatten()[1]) == 1.0
    torch.testing.assert_close(result.tensor("dw.weight_migrated")[1], program.tensor("dw.weight")[1])


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=4, max_size=4))
def test_a_spread_of_the_channels_costs_nothing(exponents: list[int]) -> None:
    """The same function with its channels spread: migrated, it quantizes as if they were not; plainly, worse."""
    plain = parse(DEPTHWISE)
    spread = torch.exp2(torch.tensor(exponents).float()).reshape(1, 4, 1, 1)
    tensors = {**plain.tensors(), "spread": spread}
    tensors["dw.weight"] = plain.tensor("dw.weight").detach() / spread.reshape(4, 1, 1, 1)
    wide = parse(SPREAD, tensors)
    even = error(plain, plain, calibrated(), ChannelMigrate())
    assert error(wide, plain, calibrated(), ChannelMigrate()) == pytest.approx(even, rel=0.02)


def test_it_helps_where_a_channel_stands_out() -> None:
    program = parse(DEPTHWISE)
    faint = program.tensor("dw.weight").detach() / torch.tensor([8.0, 1.0, 0.2, 3.0]).reshape(4, 1, 1, 1)
    even = parse(DEPTHWISE, {**program.tensors(), "dw.weight": faint})
    assert error(even, even, calibrated(), ChannelMigrate()) < 0.5 * error(even, even, calibrated())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (DEPTHWISE.replace("4, 1, 3, 3", "4, 4, 3, 3").replace("[1, 1], 4)", "[1, 1], 1)"), "no depthwise"),
        (DEPTHWISE.replace("N, ", ""), "no batch"),
        (
            DEPTHWISE.replace("b: f32", 'k: bool[4, 1, 3, 3] = constant("k")\nm: f32[4, 1, 3, 3] = vitgraph.mask.default(w, k)\nb: f32')
            .replace("default(a, w", "default(a, m"),
            "masked",
        ),
    ],
)  # fmt: skip
def test_what_is_left_alone(text: str, why: str) -> None:
    context = calibrated()
    (refusal,) = check(ChannelMigrate(only=("dw",)), text, text, context)
    assert why in refusal.why


def test_without_images_it_says_what_to_give() -> None:
    with pytest.raises(InputError, match="--calibration-data"):
        ChannelMigrate().run(parse(DEPTHWISE), Context())
