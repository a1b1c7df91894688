"""Quantizers in linear attention: where they go, that each can be switched off, and what the divisor's does for accuracy."""

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch

from tests.analysis.test_linear_attention import APART, TOGETHER
from tests.harness import body, hold_to_text, run
from tests.passes.quantization.test_quantize import Noise
from vitgraph.analysis.attention import find_attentions
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.numerics import record, site_snr
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes.quantization.quantize import Quantize
from vitgraph.passes.quantization.quantize_linear_attention import QuantizeLinearAttention

OFF = QuantizeLinearAttention(operands=False, inner=False, dividend=False, output=False, divisor="float")


def calibrated() -> Context:
    return Context(calibration=Noise((48, 4, 4)))


def quantizers(program: Program) -> list[str]:
    """The scales in the graph, in order."""
    calls = program.calls(dialect.fake_quantize, dialect.log2_quantize)
    return [str(node.args[1].target).rpartition(".")[2] for node in calls if isinstance(node.args[1], torch.fx.Node)]


def test_every_place() -> None:
    before = parse(TOGETHER)
    result = run(QuantizeLinearAttention(), before, calibrated())
    assert quantizers(result) == [
        "operand_scale", "inner_scale", "sums_scale", "dividend_scale", "divisor_scale", "output_scale",
    ]  # fmt: skip
    hold_to_text(result)
    x = Noise((48, 4, 4)).pixels
    ratios = site_snr(result, [x], *record(before, [x]))
    assert min(ratios.values()) >= QuantizeLinearAttention.floor_db, ratios
    assert [site.kind for site in find_attentions(result)] == ["linear"]


def test_a_broken_divisor_would_fall_under_the_floor() -> None:
    before = parse(TOGETHER)
    result = run(replace(OFF, divisor="log2", highest=-9), before, calibrated())
    x = Noise((48, 4, 4)).pixels
    assert min(site_snr(result, [x], *record(before, [x])).values()) < QuantizeLinearAttention.floor_db


@pytest.mark.parametrize(
    ("option", "scales"),
    [
        ({"operands": True}, ["operand_scale"]),
        ({"inner": True}, ["inner_scale", "sums_scale"]),
        ({"dividend": True}, ["dividend_scale"]),
        ({"output": True}, ["output_scale"]),
        ({"divisor": "log2"}, ["divisor_scale"]),
        ({"divisor": "uniform"}, ["divisor_scale"]),
        ({}, []),
    ],
)
def test_each_alone(option: dict[str, Any], scales: list[str]) -> None:
    result = run(replace(OFF, **option), parse(TOGETHER), calibrated())
    assert quantizers(result) == scales
    if not scales:
        assert body(show(result)) == body(show(parse(TOGETHER)))


def test_the_divisor_is_rounded_before_the_small_number_is_added() -> None:
    result = run(replace(OFF, divisor="log2", rule="bit"), parse(TOGETHER), calibrated())
    (node,) = result.calls(dialect.log2_quantize)
    assert [user.target for user in node.users] == [aten.add.Tensor]
    _, scale, rule, low, high = node.args
    assert (rule, high - low) == ("bit", 15)  # type: ignore[operator]
    top = float(result.constant(scale)) * dialect.UMAX  # type: ignore[arg-type]
    assert 2.0 ** (high - 0.5) <= top * 1.001  # type: ignore[operator]
    assert top <= 2.0 ** (high + 0.5) * 1.001  # type: ignore[operator]


def test_without_codes_and_with_the_papers_exponents() -> None:
    step = replace(OFF, divisor="log2", codes=False, highest=9)
    (node,) = run(step, parse(TOGETHER), calibrated()).calls(dialect.log2_quantize)
    assert node.args[1:] == (None, "nearest", -6, 9)


def test_products_apart_have_no_columns_to_cut() -> None:
    class Three:
        def __len__(self) -> int:
            return 4

        def batches(self, size: int) -> Any:
            yield torch.rand(4, 16, 8), None

    text = APART.replace("k: f32[N, 16, 8] = input()\nv: f32[N, 16, 8] = input()\n", "").replace(
        "kt: f32", "k: f32[N, 16, 8] = aten.relu.default(q)\nv: f32[N, 16, 8] = aten.tanh.default(q)\nkt: f32", 1
    )
    result = run(QuantizeLinearAttention(), parse(text), Context(calibration=Three()))
    assert "sums_scale" not in quantizers(result)
    assert aten.cat.default not in [node.target for node in result.calls()]


BRANCHES = (
    TOGETHER.replace("c: f32[N, 48, 4, 4]", "c1: f32[N, 48, 4, 4]")
    .replace("\nr: f32", "\nc2: f32[N, 48, 4, 4] = aten.mul.Tensor(c1, 0.01)\nc: f32[N, 96, 4, 4] = aten.cat.default([c1, c2], 1)\nr: f32")
    .replace("default(c, [-1, 2,", "default(c, [-1, 4,")
    .replace("f32[N, 2,", "f32[N, 4,")
    .replace("o: f32[N, 16, 4, 4] = aten.reshape.default(ot, [-1, 16,", "o: f32[N, 32, 4, 4] = aten.reshape.default(ot, [-1, 32,")
    .replace("p: f32[16, 16,", "p: f32[16, 32,")
)  # fmt: skip
"""Heads of two branches, of which one is far smaller."""


def test_each_branch_has_scales_of_its_own() -> None:
    program = parse(BRANCHES)
    result = run(QuantizeLinearAttention(operands=False), program, calibrated())
    assert quantizers(result).count("inner_scale") + sum("inner_scale_" in name for name in quantizers(result)) == 2
    first, second = (float(result.tensor(f"attn.dividend_scale{suffix}")) for suffix in ("", "_1"))
    assert first > 1000 * second
    again = calibrated()
    assert show(run(QuantizeLinearAttention(operands=False), result, again)) == show(result)
    assert [refusal.why for refusal in again.refusals] == ["it is quantized already"]
    x = Noise((48, 4, 4)).pixels
    assert min(site_snr(result, [x], *record(program, [x])).values()) >= QuantizeLinearAttention.floor_db


def test_proj_quantizes_the_output_already() -> None:
    steps = Pipeline((Quantize(only=("*",)), QuantizeLinearAttention()))
    scales = quantizers(steps.run(parse(TOGETHER), calibrated()))
    assert "output_scale" not in scales
    assert scales.count("input_scale") == 2


def test_a_second_run_changes_nothing() -> None:
    once = run(QuantizeLinearAttention(), parse(TOGETHER), calibrated())
    context = calibrated()
    assert show(run(QuantizeLinearAttention(), once, context)) == show(once)
    assert [refusal.why for refusal in context.refusals] == ["it is quantized already"]


def test_small_divisors_survive_as_powers_of_two_only() -> None:
    """The point of it: divisors that reach over orders of magnitude, on a uniform grid and on that of exponents."""
    sizes = torch.logspace(-2, 0, 9, base=10.0).reshape(-1, 1, 1, 1)

    class Faint(Noise):
        def __init__(self) -> None:
            super().__init__((48, 4, 4))
            self.pixels = self.pixels * sizes

    program, images = parse(TOGETHER), Faint()
    wanted = program.run(images.pixels)
    error = dict[str, float]()
    divisors: list[Literal["log2", "uniform"]] = ["log2", "uniform"]
    for divisor in divisors:
        step = replace(OFF, divisor=divisor, codes=False)
        found = run(step, program, Context(calibration=images)).run(images.pixels)
        error[divisor] = float(((found - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)).mean())
    assert error["log2"] < 0.3
    assert not error["uniform"] < 10 * error["log2"]


def test_without_images_it_says_what_to_give() -> None:
    with pytest.raises(InputError, match="--calibration-data"):
        QuantizeLinearAttention().run(parse(TOGETHER), Context())
