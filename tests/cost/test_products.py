"""What is multiplied, for one image."""

import pytest
import torch

from vitgraph.cost.products import Product, find_products
from vitgraph.frontend.capture import capture
from vitgraph.ir.parser import parse
from vitgraph.passes import pipeline

HEADER = "# program: t\n# form: canonical\n"


def only(text: str, tensors: dict[str, torch.Tensor] | None = None) -> Product:
    (product,) = find_products(parse(HEADER + text, tensors))
    return product


@pytest.mark.parametrize("batch", ["N", "1", "4"])
def test_a_linear_is_one_product_of_one_image(batch: str) -> None:
    text = f"""
x: f32[{batch}, 3, 2, 8] = input()
w: f32[6, 8] = weight("w")
y: f32[{batch}, 3, 2, 6] = aten.linear.default(x, w)
return_(y)
"""
    product = only(text)
    assert (product.m, product.n, product.k, product.count) == (6, 6, 8, 1)
    assert product.macs == 6 * 6 * 8
    assert product.weight == "w"


def test_a_convolution_in_groups_is_one_product_for_each() -> None:
    text = """
x: f32[2, 4, 6, 6] = input()
w: f32[8, 2, 3, 3] = weight("w")
y: f32[2, 8, 4, 4] = aten.conv2d.default(x, w, None, [1, 1], [0, 0], [1, 1], 2)
return_(y)
"""
    product = only(text)
    assert (product.m, product.n, product.k, product.count) == (16, 4, 18, 2)
    assert product.role == "grouped"


def test_an_attention_is_two_products_for_each_head() -> None:
    text = """
q: f16[N, 2, 5, 4] = input()
k: f16[N, 2, 7, 4] = input()
v: f16[N, 2, 7, 3] = input()
y: f16[N, 2, 5, 3] = vitgraph.attention.default(q, k, v, None, 0.5)
return_(y)
"""
    scores, values = find_products(parse(HEADER + text))
    assert (scores.m, scores.n, scores.k, scores.count) == (5, 7, 4, 2)
    assert (values.m, values.n, values.k, values.count) == (5, 3, 7, 2)
    assert scores.bits == values.bits == (16, 16)


def test_weights_without_values_have_no_known_zeros() -> None:
    text = """
x: f32[1, 5, 8] = input()
w: f32[8, 8] = weight("w")
y: f32[1, 5, 8] = aten.linear.default(x, w)
return_(y)
"""
    half = torch.ones(8, 8)
    half[:, ::2] = 0
    assert only(text, {"w": half}).density == 0.5
    assert str(only(text, {"w": half}).packing) == "2:4"
    program = parse(HEADER + text, {"w": half})
    program.module.w = torch.nn.Parameter(half.to("meta"))
    (product,) = find_products(program)
    assert (product.density, product.packing) == (1.0, None)


def test_a_captured_model_on_the_meta_device() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)).to("meta")
    captured = capture(model, torch.zeros(1, 5, 8, device="meta"))
    program = pipeline("canonicalize,fold-constants").run(captured)
    assert [product.macs for product in find_products(program)] == [5 * 8 * 16, 5 * 16 * 4]
