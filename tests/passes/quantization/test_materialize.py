"""Masks and weight quantizers become constants, bit for bit."""

import torch

from tests.harness import body, hold_to_effect, hold_to_text, run
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import Packing
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.pass_manager.pass_contract import Context, Effect
from vitgraph.passes.quantization.materialize import Materialize

BEFORE = """
x: f32[N, 8] = input()
xs: f32[] = constant("x_scale")
xq: f32[N, 8] = vitgraph.fake_quantize.default(x, xs, None)
w: f32[6, 8] = weight("fc.weight")
k: bool[6, 8] = constant("fc.weight_keep")
m: f32[6, 8] = vitgraph.mask.default(w, k)
s: f32[6] = constant("fc.weight_scale")
wq: f32[6, 8] = vitgraph.fake_quantize.default(m, s, 0)
b: f32[6] = weight("fc.bias")
y: f32[N, 6] = aten.linear.default(xq, wq, b)
return_(y)
"""
AFTER = """
x: f32[N, 8] = input()
xs: f32[] = constant("x_scale")
xq: f32[N, 8] = vitgraph.fake_quantize.default(x, xs, None)
w: i8[6, 8] = constant("fc.weight_masked_int8")
s: f32[6] = constant("fc.weight_scale")
wq: f32[6, 8] = vitgraph.dequantize.default(w, s, 0)
b: f32[6] = weight("fc.bias")
y: f32[N, 6] = aten.linear.default(xq, wq, b)
return_(y)
"""
MASK_ALONE = """
x: f32[N, 8] = input()
w: f32[6, 8] = weight("fc.weight")
k: bool[6, 8] = constant("fc.weight_keep")
m: f32[6, 8] = vitgraph.mask.default(w, k)
y: f32[N, 6] = aten.linear.default(x, m, None)
return_(y)
"""


def tensors() -> dict[str, torch.Tensor]:
    weight = torch.randn(6, 8) * 0.3
    return {
        "x_scale": torch.tensor(0.02),
        "fc.weight": weight,
        "fc.weight_keep": nm_keep(weight.abs(), Packing(2, 4)),
        "fc.weight_scale": weight.abs().amax(1) / 100,  # clips the largest nowhere
        "fc.bias": torch.randn(6),
    }


def test_folds_mask_and_quantizer_bit_for_bit() -> None:
    assert Materialize().declares() is Effect.EXACT
    values = tensors()
    program = parse(BEFORE, values)
    result = run(Materialize(), program)
    assert body(show(result)) == body(show(parse(AFTER)))
    hold_to_effect(Materialize(), program, result)
    hold_to_text(result)
    assert show(run(Materialize(), result)) == show(result)
    integers = result.tensor("fc.weight_masked_int8")
    masked = values["fc.weight"] * values["fc.weight_keep"]
    wanted = (masked / values["fc.weight_scale"].unsqueeze(1)).round().to(torch.int8)
    assert torch.equal(integers, wanted)
    assert bool((integers[~values["fc.weight_keep"]] == 0).all())
    assert bool(((integers != 0).reshape(6, 2, 4).sum(2) <= 2).all())


def test_clips_where_the_quantizer_clips() -> None:
    values = tensors()
    values["fc.weight_scale"] = values["fc.weight_scale"] / 2  # up to 200 steps
    program = parse(BEFORE, values)
    result = run(Materialize(), program)
    hold_to_effect(Materialize(), program, result)
    assert (
        int(result.tensor("fc.weight_masked_int8").max()) in (127, -128)
        or int(result.tensor("fc.weight_masked_int8").min()) == -128
    )


def test_folds_a_mask_alone() -> None:
    values = tensors()
    program = parse(MASK_ALONE, values)
    result = run(Materialize(), program)
    hold_to_effect(Materialize(), program, result)
    assert torch.equal(result.tensor("fc.weight_masked"), values["fc.weight"] * values["fc.weight_keep"])
    assert not isinstance(result.tensor("fc.weight_masked"), torch.nn.Parameter)


def test_leaves_the_quantizers_of_activations() -> None:
    text = """
x: f32[N, 8] = input()
s: f32[] = constant("s")
y: f32[N, 8] = vitgraph.fake_quantize.default(x, s, None)
return_(y)
"""
    program = parse(text, {"s": torch.tensor(0.1)})
    assert show(run(Materialize(), program)) == show(program)


def test_a_mask_on_a_computed_value_stays_and_is_named() -> None:
    text = MASK_ALONE.replace("mask.default(w, k)", "mask.default(t, k)  # fc")
    text = text.replace("k: bool", "t: f32[6, 8] = aten.tanh.default(w)\nk: bool")
    program, context = parse(text), Context()
    assert show(run(Materialize(), program, context)) == show(program)
    assert [(r.site, r.why) for r in context.refusals] == [("fc", "the mask is on a computed value, not on a weight")]


def test_one_weight_under_two_masks_gives_two_constants() -> None:
    text = MASK_ALONE.replace(
        "return_(y)",
        'k2: bool[6, 8] = constant("other_keep")\nm2: f32[6, 8] = vitgraph.mask.default(w, k2)\n'
        "z: f32[N, 6] = aten.linear.default(x, m2, None)\nreturn_([y, z])",
    )
    program = parse(text)
    result = run(Materialize(), program)
    hold_to_effect(Materialize(), program, result)
    assert [name for name in result.tensors() if "masked" in name] == ["fc.weight_masked", "fc.weight_masked_1"]


TIED = """
x: f32[N, 8] = input()
w: f32[8, 8] = weight("fc.weight")
{pairs}y: f32[N, 8] = aten.linear.default(x, {first}, None)
z: f32[N, 8] = aten.linear.default(y, {second}, None)
return_(z)
"""
PAIRS = """s: f32[8] = constant("s")
a: f32[8, 8] = vitgraph.fake_quantize.default(w, s, 0)
t: f32[8] = constant("t")
b: f32[8, 8] = vitgraph.fake_quantize.default({weight}, t, 0)
"""


def test_a_weight_of_several_linears_is_one_constant_of_codes() -> None:
    values = {"fc.weight": torch.randn(8, 8), "s": torch.full((8,), 0.02), "t": torch.full((8,), 0.02)}
    before = parse(TIED.format(pairs=PAIRS.format(weight="w"), first="a", second="b"), values)
    result = run(Materialize(), before)
    assert set(result.tensors()) == {"fc.weight_int8", "s"}
    hold_to_effect(Materialize(), before, result)
    values["t"] = torch.full((8,), 0.03)  # another scale is another weight
    other = run(Materialize(), parse(TIED.format(pairs=PAIRS.format(weight="w"), first="a", second="b"), values))
    assert set(other.tensors()) == {"fc.weight_int8", "s", "fc.weight_int8_1", "t"}


def test_equal_weights_under_two_names_are_one() -> None:
    """As passes leave those of tied blocks; weights of the same shape that differ stay two."""
    text = TIED.format(pairs='u: f32[8, 8] = weight("other.weight")\n', first="w", second="u")
    values = {"fc.weight": torch.randn(8, 8)}
    same = run(Materialize(), parse(text, {**values, "other.weight": values["fc.weight"].clone()}))
    assert list(same.tensors()) == ["fc.weight"]
    apart = run(Materialize(), parse(text, {**values, "other.weight": -values["fc.weight"]}))
    assert list(apart.tensors()) == ["fc.weight", "other.weight"]
