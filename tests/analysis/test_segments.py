"""Running a program part by part gives what running it whole gives."""

from typing import Any

import pytest
import torch

from vitgraph.analysis.segments import advance, find_segments
from vitgraph.ir import dialect
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.runtime.activation_store import ROOM, ActivationStore

TWO_BRANCHES = """
x: f32[{n}, 5, 8] = input()
w1: f32[8, 8] = weight("a.weight")
y1: f32[{n}, 5, 8] = aten.linear.default(x, w1, None)  # a
r1: f32[{n}, 5, 8] = aten.add.Tensor(x, y1)
w2: f32[8, 8] = weight("b.weight")
h2: f32[{n}, 5, 8] = aten.linear.default(r1, w2, None)  # b
g2: f32[{n}, 5, 8] = aten.gelu.default(h2)
r2: f32[{n}, 5, 8] = aten.add.Tensor(r1, g2)
s: f32[{n}, 8] = aten.mean.dim(r2, [1], False)
return_(s)
"""


def is_linear(node: torch.fx.Node) -> bool:
    return node.target is aten.linear.default


def first_of(value: torch.Tensor, *_: Any) -> torch.Tensor:
    return value


def whole_of(units: ActivationStore) -> torch.Tensor:
    return torch.cat(list(units.chunks(4)))


@pytest.mark.parametrize("room", [ROOM, 0])
@pytest.mark.parametrize("n", ["N", "1", "3"])
def test_parts_in_a_row_give_the_whole(n: str, room: int) -> None:
    program = parse(TWO_BRANCHES.format(n=n))
    segments = find_segments(program, is_linear)
    assert [(s.start.name, s.end.name) for s in segments] == [("x", "add_tensor"), ("add_tensor", "add_tensor_1")]
    unit = 1 if n == "N" else int(n)
    value = torch.randn(6, 5, 8)
    units = ActivationStore.of(value.reshape(-1, unit, 5, 8), room)
    for segment in segments:
        units = advance(program, segment, units, {}, chunk=2, keep=True)
    whole = torch.cat([program.run(value[at : at + unit]) for at in range(0, 6, unit)])
    torch.testing.assert_close(whole_of(units).mean(2).reshape(whole.shape), whole)


def test_no_cut_falls_inside_a_branch() -> None:
    """Between its branching and its end a second value is alive."""
    program = parse(TWO_BRANCHES.format(n="N"))
    ends = {segment.end.name for segment in find_segments(program, lambda _: True)}
    assert not ends & {"linear_default", "linear_default_1", "gelu_default"}


def test_advancing_takes_the_memory_of_what_it_leaves() -> None:
    """The residual stream of many images is held once; a value of another shape gets memory of its own."""
    program = parse(TWO_BRANCHES.format(n="N"))
    units = ActivationStore.of(torch.randn(6, 1, 5, 8))
    (first, *_) = find_segments(program, is_linear)
    wanted = advance(program, first, units, {}, chunk=2, keep=True)
    result = advance(program, first, units, {}, chunk=4)
    assert result is units
    torch.testing.assert_close(whole_of(result), whole_of(wanted))


def test_a_part_may_ask_for_the_batch() -> None:
    """A graph with a dynamic batch reshapes by it, and `torch.vmap` knows no such operator."""
    asked = """
n: int[N] = aten.sym_size.int(y1, 0)
h1: f32[N, 40] = aten.view.default(y1, [n, 40])
z1: f32[N, 5, 8] = aten.view.default(h1, [n, 5, 8])
r1: f32[N, 5, 8] = aten.add.Tensor(x, z1)
"""
    text = TWO_BRANCHES.format(n="N").replace("\nr1: f32[N, 5, 8] = aten.add.Tensor(x, y1)\n", asked)
    program, units = parse(text), torch.randn(3, 1, 5, 8)
    (segment, *_) = find_segments(program, is_linear)
    assert any(node.target is aten.sym_size.int for node in segment.nodes)
    wanted = units + torch.nn.functional.linear(units, program.tensor("a.weight"))
    torch.testing.assert_close(whole_of(advance(program, segment, ActivationStore.of(units), {}, keep=True)), wanted)


def test_an_override_takes_a_nodes_place() -> None:
    program = parse(TWO_BRANCHES.format(n="N"))
    first = find_segments(program, is_linear)[0]
    x = torch.randn(2, 1, 5, 8)
    linear = next(node for node in first.nodes if is_linear(node))
    found = advance(program, first, ActivationStore.of(x), {linear: first_of}, keep=True)
    torch.testing.assert_close(whole_of(found), 2 * x)


def test_a_model_without_what_is_asked_for_has_no_segments() -> None:
    program = parse(TWO_BRANCHES.format(n="N"))
    assert find_segments(program, lambda node: node.target is dialect.attention) == []
