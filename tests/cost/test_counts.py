"""Counts, by hand."""

import pytest
import torch

from vitgraph.cost.counts import count
from vitgraph.ir.parser import parse

LINEAR = """
x: f32[N, 5, 8] = input()
w: f32[6, 8] = weight("w")
b: f32[6] = weight("b")
y: f32[N, 5, 6] = aten.linear.default(x, w, b)
return_(y)
"""


def test_a_linear() -> None:
    cost = count(parse(LINEAR))
    assert cost.parameters == 6 * 8 + 6
    assert cost.nonzero_parameters == cost.parameters
    assert cost.macs == 5 * 6 * 8  # for one image, whatever the batch
    assert cost.nonzero_macs == cost.macs
    assert cost.bit_operations == cost.macs * 32 * 32
    assert cost.dense_fp32_bytes == cost.stored_bytes == 4 * 54


def test_a_convolution_with_groups() -> None:
    text = """
x: f32[1, 4, 6, 6] = input()
w: f32[8, 2, 3, 3] = weight("w")
y: f32[1, 8, 4, 4] = aten.conv2d.default(x, w, None, [1, 1], [0, 0], [1, 1], 2)
return_(y)
"""
    assert count(parse(text)).macs == 8 * 4 * 4 * (2 * 3 * 3)


@pytest.mark.parametrize(
    "call",
    ["vitgraph.attention.default(q, k, v, None, 0.5)", "aten.scaled_dot_product_attention.default(q, k, v)"],
)
def test_an_attention(call: str) -> None:
    text = f"""
q: f32[1, 2, 5, 4] = input()
k: f32[1, 2, 7, 4] = input()
v: f32[1, 2, 7, 3] = input()
y: f32[1, 2, 5, 3] = {call}
return_(y)
"""
    cost = count(parse(text))
    assert cost.macs == 2 * 5 * 7 * (4 + 3)
    assert (cost.parameters, cost.stored_bytes) == (0, 0)


def test_a_product_of_two_values() -> None:
    text = """
a: f32[1, 2, 5, 4] = input()
b: f32[1, 2, 4, 7] = input()
y: f32[1, 2, 5, 7] = aten.matmul.default(a, b)
return_(y)
"""
    assert count(parse(text)).macs == 2 * 5 * 7 * 4


def test_masked_weights_are_zeros() -> None:
    text = LINEAR.replace("linear.default(x, w, b)", "linear.default(x, m, b)")
    text = text.replace(
        "b: f32[6]", 'k: bool[6, 8] = constant("k")\nm: f32[6, 8] = vitgraph.mask.default(w, k)\nb: f32[6]'
    )
    keep = torch.zeros(6, 8, dtype=torch.bool)
    keep[:, ::2] = True
    cost = count(parse(text, {"w": torch.ones(6, 8), "b": torch.ones(6), "k": keep}))
    assert cost.nonzero_parameters == 24 + 6
    assert cost.nonzero_macs == cost.macs // 2
    assert cost.bit_operations == cost.nonzero_macs * 32 * 32
    assert cost.stored_bytes == 4 * 54  # a mask is no weight


def test_zeros_of_the_weight_itself_count_too() -> None:
    weight = torch.ones(6, 8)
    weight[0] = 0.0
    cost = count(parse(LINEAR, {"w": weight, "b": torch.zeros(6)}))
    assert cost.nonzero_parameters == 54 - 8  # a zero in a bias is none of a product's
    assert cost.nonzero_macs == 5 * 5 * 8


QUANTIZED = """
x: f32[N, 5, 8] = input()
s: f32[] = constant("s")
xq: f32[N, 5, 8] = vitgraph.fake_quantize.default(x, s, None)
r: f32[5*N, 8] = aten.reshape.default(xq, [-1, 8])
w: i8[6, 8] = constant("w")
t: f32[6] = constant("t")
d: f32[6, 8] = vitgraph.dequantize.default(w, t, 0)
y: f32[5*N, 6] = aten.linear.default(r, d, None)
return_(y)
"""


def test_quantized_operands_have_eight_bits() -> None:
    tensors = {"s": torch.tensor(0.1), "w": torch.ones(6, 8, dtype=torch.int8), "t": torch.full((6,), 0.1)}
    cost = count(parse(QUANTIZED, tensors), parse(LINEAR))
    assert cost.bit_operations == cost.macs * 8 * 8
    assert cost.parameters == 54  # of the program before
    assert cost.stored_bytes == 48 + 4 * 6 + 4
    text = QUANTIZED.replace("linear.default(r, d, None)", "linear.default(r, f, None)")
    text = text.replace("y: f32", 'f: f32[6, 8] = weight("f")\ny: f32')
    half_way = count(parse(text, tensors | {"f": torch.ones(6, 8)}))
    assert half_way.bit_operations == half_way.macs * 8 * 32


def test_int4_weights_take_four_bits_and_half_a_byte() -> None:
    text = QUANTIZED.replace("dequantize.default(w, t, 0)", "dequantize.default(w, t, 0, 'int4')")
    tensors = {"s": torch.tensor(0.1), "w": torch.ones(6, 8, dtype=torch.int8), "t": torch.full((6,), 0.1)}
    cost = count(parse(text, tensors))
    assert cost.bit_operations == cost.macs * 8 * 4
    assert cost.stored_bytes == 24 + 4 * 6 + 4
    both = count(
        parse(text.replace("fake_quantize.default(x, s, None)", "fake_quantize.default(x, s, None, 'int4')"), tensors)
    )
    assert both.bit_operations == both.macs * 4 * 4
    odd = text.replace("6, 8]", "1, 7]").replace("8]", "7]").replace("t: f32[6]", "t: f32[1]").replace("6]", "1]")
    tensors |= {"w": torch.ones(1, 7, dtype=torch.int8), "t": torch.full((1,), 0.1)}
    assert count(parse(odd, tensors)).stored_bytes == 4 + 4 + 4  # the last byte is half empty


def test_fp8_weights_take_eight_bits_and_their_zeros_count() -> None:
    text = QUANTIZED.replace("dequantize.default(w, t, 0)", "dequantize.default(w, t, 0, 'fp8')").replace(
        "w: i8", "w: f8"
    )
    weight = torch.ones(6, 8)
    weight[0] = 0.0
    tensors = {"s": torch.tensor(0.1), "w": weight.to(torch.float8_e4m3fn), "t": torch.full((6,), 0.1)}
    cost = count(parse(text, tensors))
    assert cost.nonzero_macs == 5 * 5 * 8
    assert cost.bit_operations == cost.nonzero_macs * 8 * 8
    assert cost.stored_bytes == 48 + 4 * 6 + 4


def test_half_precision_has_sixteen_bits() -> None:
    cost = count(parse(LINEAR.replace("f32", "f16")))
    assert cost.bit_operations == cost.macs * 16 * 16
    assert cost.stored_bytes == 2 * 54


def test_int8_weights_with_two_of_four_zeros_are_packed() -> None:
    codes = torch.tensor([0, 1, 1, 0], dtype=torch.int8).repeat(6, 2)
    tensors = {"s": torch.tensor(0.1), "w": codes, "t": torch.full((6,), 0.1)}
    cost = count(parse(QUANTIZED, tensors))
    assert cost.unpacked_bytes == 48 + 4 * 6 + 4
    assert cost.stored_bytes == 0.625 * 48 + 4 * 6 + 4
    assert cost.parameters == 48  # the weight was trained once; scales were not
    assert cost.nonzero_parameters == 24
    codes[0, :4] = torch.tensor([1, 1, 1, 0])  # three of four in one group: nothing can be packed as 2:4
    assert count(parse(QUANTIZED, tensors)).stored_bytes > 0.625 * 48 + 28


def test_the_report_has_every_key() -> None:
    document = count(parse(LINEAR)).to_json()
    assert document["weight_bytes"] == {"dense_fp32": 216, "stored": 216, "unpacked": 216, "ratio": 1.0}
    assert set(document) == {
        "parameters", "nonzero_parameters", "macs", "nonzero_macs", "bit_operations", "weight_bytes"
    }  # fmt: skip
    empty = count(parse("x: f32[2] = input()\nreturn_(x)")).to_json()
    assert empty["weight_bytes"]["ratio"] is None
