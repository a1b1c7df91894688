"""Channels are found again wherever layout operators take them."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from vitgraph.analysis.channel_flow import before_moves, channels_at, consumers_after_moves
from vitgraph.ir.parser import parse

SPLIT = """
x: f32[N, 5, {width}] = input()
w: f32[{triple}, {width}] = weight("w")
qkv: f32[N, 5, {triple}] = aten.linear.default(x, w, None)
r: f32[N, 5, 3, {heads}, {dim}] = aten.reshape.default(qkv, [-1, 5, 3, {heads}, {dim}])
p: f32[3, N, {heads}, 5, {dim}] = aten.permute.default(r, [2, 0, 3, 1, 4])
k: f32[N, {heads}, 5, {dim}] = aten.select.int(p, 0, 1)
y: f32[N, {heads}, 5, {dim}] = aten.relu.default(k)
return_(y)
"""


@given(heads=st.integers(1, 4), dim=st.integers(1, 6))
def test_the_channels_of_a_head(heads: int, dim: int) -> None:
    width = heads * dim
    program = parse(SPLIT.format(heads=heads, dim=dim, width=width, triple=3 * width))
    qkv, k = program.calls()[0], program.calls()[3]
    found = channels_at(program, qkv, k)
    assert found.shape == (1, heads, 5, dim)
    expected = width + torch.arange(width).reshape(1, heads, 1, dim).expand(1, heads, 5, dim)
    assert torch.equal(found, expected)
    assert before_moves(k) is qkv


def test_readers_are_found_after_moves_and_no_further() -> None:
    program = parse(SPLIT.format(heads=2, dim=3, width=6, triple=18))
    qkv, *_, k, relu = program.calls()
    assert consumers_after_moves(qkv) == [(relu, k)]
    assert before_moves(relu) is relu


def test_padding_is_no_move() -> None:
    """What is padded with zeros is not what the linear would have output."""
    program = parse("""
x: f32[N, 5, 4] = input()
w: f32[4, 4] = weight("w")
y: f32[N, 5, 4] = aten.linear.default(x, w, None)
p: f32[N, 6, 4] = aten.pad.default(y, [0, 0, 0, 1], "constant", 0)
return_(p)
""")
    assert before_moves(program.calls()[-1]) is program.calls()[-1]
