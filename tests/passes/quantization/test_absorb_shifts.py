"""A shift that a Q/DQ pair rounds around becomes a subtraction ahead of the pair, and a bias."""

from tests.harness import check
from tests.passes.quantization.test_channel_shifts import quantized
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.quantization.absorb_shifts import AbsorbShifts

PAIR = """
x: f32[N, 4, 8] = input()
s: f32[] = constant("fc.input_scale")
z: f32[8] = constant("z")
q: f32[N, 4, 8] = vitgraph.fake_quantize.default(x, s, None, 'int8', z)
w: f32[6, 8] = weight("fc.weight")
b: f32[6] = weight("fc.bias_around")
y: f32[N, 4, 6] = aten.linear.default(q, w, b)  # fc
return_(y)
"""
ABSORBED = """
x: f32[N, 4, 8] = input()
z: f32[8] = constant("z")
c: f32[N, 4, 8] = aten.sub.Tensor(x, z)
s: f32[] = constant("fc.input_scale")
q: f32[N, 4, 8] = vitgraph.fake_quantize.default(c, s, None)
w: f32[6, 8] = weight("fc.weight")
b: f32[6] = weight("fc.bias_around_centred")
y: f32[N, 4, 6] = aten.linear.default(q, w, b)  # fc
return_(y)
"""


def test_a_shift_becomes_a_subtraction_and_a_bias() -> None:
    assert check(AbsorbShifts(), PAIR, ABSORBED) == []


def test_pairs_without_a_shift_stay() -> None:
    text = PAIR.replace(", 'int8', z)", ")").replace('z: f32[8] = constant("z")\n', "")
    assert check(AbsorbShifts(), text, text) == []


def test_stops_when_the_fuel_is_used_up() -> None:
    _, pairs, _ = quantized("linear")
    assert str(pipeline("absorb-shifts").run(pairs, Context(fuel=1))) == str(pairs)
