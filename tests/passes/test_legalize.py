"""What ONNX lacks is spelled out, scales survive FP16, and attentions without a kernel are named."""

import pytest
import torch

from tests.harness import check, run
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.legalize import SMALLEST_SCALE, Legalize
from vitgraph.targets.target import get_target

RMS = """
x: {t}[N, 5, 8] = input()
w: {t}[8] = weight("norm.weight")
y: {t}[N, 5, 8] = aten.rms_norm.default(x, [8], w, 1e-06)
return_(y)
"""
SPELLED_OUT = """
x: f32[N, 5, 8] = input()
mul: f32[N, 5, 8] = aten.mul.Tensor(x, x)
mean: f32[N, 5, 1] = aten.mean.dim(mul, [2], True)
add: f32[N, 5, 1] = aten.add.Tensor(mean, 1e-06)
rsqrt: f32[N, 5, 1] = aten.rsqrt.default(add)
mul_1: f32[N, 5, 8] = aten.mul.Tensor(x, rsqrt)
w: f32[8] = weight("norm.weight")
mul_2: f32[N, 5, 8] = aten.mul.Tensor(mul_1, w)
return_(mul_2)
"""
ATTENTION = """
q: {t}[1, 2, {tokens}, {d}] = input()
k: {t}[1, 2, {tokens}, {d}] = input()
v: {t}[1, 2, {tokens}, {d}] = input()
{scale}
y: {t}[1, 2, {tokens}, {d}] = vitgraph.attention.default(q, k, v, None, 0.25{p})  # blocks.0.attn
return_(y)
"""


def test_spells_out_an_rms_norm() -> None:
    check(Legalize(), RMS.format(t="f32"), SPELLED_OUT)


@pytest.mark.parametrize("rest", ["[8], w", "[8], None, 1e-06", "[8]", "[5, 8], None, 1e-05"])
def test_rms_norms_with_fewer_arguments(rest: str) -> None:
    text = RMS.format(t="f32").replace("[8], w, 1e-06", rest)
    text = text if "w" in rest else text.replace('w: f32[8] = weight("norm.weight")\n', "")
    result = run(Legalize(), parse(text))
    assert "rms_norm" not in show(result)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(result.run(x), parse(text).run(x), rtol=1e-5, atol=1e-5)


def test_a_square_in_half_precision_does_not_overflow() -> None:
    program = parse(RMS.format(t="f16"))
    result = run(Legalize(), program)
    x = torch.full((2, 5, 8), 1000.0, dtype=torch.float16)  # its square is over 65504
    torch.testing.assert_close(result.run(x), program.run(x), rtol=2e-3, atol=1e-3)
    assert result.run(x).dtype == torch.float16


def test_lifts_scales_that_fp16_rounds_to_zero() -> None:
    text = """
x: f32[2, 4] = input()
s: f32[] = constant("s")
a: f32[2, 4] = vitgraph.fake_quantize.default(x, s, None)
w: i8[3, 4] = constant("w")
t: f32[3] = constant("t")
b: f32[3, 4] = vitgraph.dequantize.default(w, t, 0)
y: f32[2, 3] = aten.linear.default(a, b, None)
return_(y)
"""
    tensors = {
        "s": torch.tensor(0.02),
        "w": torch.zeros(3, 4, dtype=torch.int8),
        "t": torch.tensor([0.1, 1e-11, SMALLEST_SCALE]),
    }
    result = run(Legalize(), parse(text, tensors))
    assert torch.equal(result.tensor("t_lifted"), torch.tensor([0.1, SMALLEST_SCALE, SMALLEST_SCALE]))
    assert bool((result.tensor("t_lifted").half() > 0).all())
    assert float(tensors["t"][1]) == pytest.approx(1e-11)  # never written into
    assert "s_lifted" not in result.tensors()
    assert show(run(Legalize(), result)) == show(result)


@pytest.mark.parametrize(
    ("kind", "tokens", "head_dim", "quantized", "why"),
    [
        ("f16", 5, 8, False, "head dim 8 is under 12"),
        ("f32", 5, 16, False, "no fused fp32 attention"),
        ("f32", 5, 24, True, "head dim 24 is not one of"),
        ("f16", 5, 16, False, None),
        ("f32", 5, 16, True, None),
    ],
)
def test_names_attentions_that_will_not_fuse(
    kind: str, tokens: int, head_dim: int, quantized: bool, why: str | None
) -> None:
    scale, argument = ('s: f32[1] = constant("s")', ", s") if quantized else ("", "")
    text = ATTENTION.format(t=kind, tokens=tokens, d=head_dim, scale=scale, p=argument)
    context = Context(get_target("a100"))
    program = parse(text)
    assert show(run(Legalize(), program, context)) == show(program)
    assert [r.site for r in context.refusals] == ([] if why is None else ["blocks.0.attn"])
    assert why is None or why in context.refusals[0].why


def test_says_nothing_of_kernels_without_a_target() -> None:
    context = Context()
    run(Legalize(), parse(ATTENTION.format(t="f32", tokens=5, d=7, scale="", p="")), context)
    assert context.refusals == []
