"""How ELSA, LPViT and GPUSQ-ViT count, on graphs counted by hand."""

import pytest
import torch

from vitgraph.cost.counts import count_parameters
from vitgraph.cost.paper_counts import elsa_flops, lpvit_flops, packed, uniform
from vitgraph.cost.products import find_products
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program

BLOCK = """
# program: block
# form: canonical
x: f32[1, 5, 8] = input()
g: f32[8] = weight("g")
b: f32[8] = weight("b")
n: f32[1, 5, 8] = aten.layer_norm.default(x, [8], g, b)
w1: f32[16, 8] = weight("w1")
b1: f32[16] = weight("b1")
h: f32[1, 5, 16] = aten.linear.default(n, w1, b1)
a: f32[1, 5, 16] = aten.gelu.default(h)
w2: f32[8, 16] = weight("w2")
y: f32[1, 5, 8] = aten.linear.default(a, w2)
r: f32[1, 5, 8] = aten.add.Tensor(x, y)
g2: f32[8] = weight("g2")
m: f32[1, 5, 8] = aten.layer_norm.default(r, [8], g2, b)
wh: f32[3, 8] = weight("wh")
o: f32[1, 5, 3] = aten.linear.default(m, wh)
return_(o)
"""
LINEARS, HEAD = 5 * 8 * 16 * 2, 5 * 3 * 8


def block(w1: torch.Tensor | None = None) -> Program:
    ones = {name: torch.ones(parse(BLOCK).tensor(name).shape) for name in parse(BLOCK).tensors()}
    return parse(BLOCK, ones | ({} if w1 is None else {"w1": w1}))


def test_elsa_leaves_the_head_out_and_adds_the_norms_of_blocks() -> None:
    program = block()
    assert elsa_flops(program, find_products(program)) == LINEARS + 5 * 8


def test_lpvit_counts_weights_that_are_left_and_biases() -> None:
    program = block()
    assert lpvit_flops(find_products(program)) == LINEARS + HEAD + 5 * 16
    halved = torch.ones(16, 8)
    halved[:8] = 0
    program = block(halved)
    assert lpvit_flops(find_products(program)) == LINEARS + HEAD + 5 * 16 - 5 * 8 * 8


def test_every_block_linear_at_one_pattern() -> None:
    half, quarter = uniform(find_products(block()))
    assert (str(half.pattern), half.macs) == ("2:4", LINEARS // 2 + HEAD)
    assert (str(quarter.pattern), quarter.macs) == ("1:4", LINEARS // 4 + HEAD)
    assert half.ratio == pytest.approx((LINEARS + HEAD) / half.macs)


def test_packed_sizes_as_gpusq_counts_and_as_they_are_stored() -> None:
    program = block()
    parameters = count_parameters(program)
    int8, int4 = packed(program, find_products(program), parameters)
    assert (int8.every_parameter, int4.every_parameter) == (6.4, 12.8)
    weights = 2 * 8 * 16
    assert int8.block_linears == pytest.approx(4 * parameters / (weights * 0.625 + 2 * (parameters - weights)))
    assert int8.block_linears < int8.every_parameter
    everything = (LINEARS / 2 + HEAD) * 64
    assert int8.bit_operations == pytest.approx((LINEARS + HEAD) * 1024 / everything)


def test_a_graph_without_products_has_no_projection() -> None:
    program = parse("# form: canonical\nx: f32[2] = input()\nreturn_(x)")
    assert uniform(()) == ()
    assert packed(program, (), 0) == ()
