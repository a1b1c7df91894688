"""The operator that is named is the one that began it."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from vitgraph.errors import PassError
from vitgraph.ir.calls import BinaryCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.instruments import Compare
from vitgraph.pass_manager.not_finite import end_of_finite
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.pass_manager.pipeline import Pipeline

GUARDED = """
x: f32[4, 8] = input()
r: f32[4, 8] = aten.relu.default(x)  # block.act
d: f32[4, 8] = aten.add.Tensor(r, 1e-15)  # block.attn
q: f32[4, 8] = aten.div.Tensor(r, d)  # block.attn
w: f32[8, 8] = weight("proj.weight")
y: f32[4, 8] = aten.linear.default(q, w, None)  # block.proj
return_(y)
"""
MASKED = """
x: f32[2, 4] = input()
k: bool[2, 4] = input()
m: f32[2, 4] = aten.masked_fill.Scalar(x, k, -inf)  # mask
y: f32[2, 4] = aten.softmax.int(m, 1)  # attn
return_(y)
"""
X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


def test_all_finite_says_nothing() -> None:
    assert end_of_finite(parse(GUARDED), [X]) == ""


def test_the_operator_that_divides_by_zero_is_named() -> None:
    said = end_of_finite(parse(GUARDED.replace("1e-15", "0.0")), [X])
    assert said == "; values are finite no more from aten.div.Tensor in 'block.attn' on (f32[4, 8])"


def test_infinities_of_a_mask_are_no_fault_until_a_row_is_empty() -> None:
    some, all_ = torch.zeros(2, 4, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)
    assert "aten.softmax.int in 'attn'" in end_of_finite(parse(MASKED), [X[:2, :4], all_])
    assert end_of_finite(parse(MASKED), [X[:2, :4], some]) == ""


@dataclass(frozen=True)
class _Unguard(Pass):
    """Takes the guard off a divisor."""

    name: ClassVar[str] = "unguard"
    effect: ClassVar[Effect] = Effect.LOSSY

    def run(self, program: Program, context: Context) -> None:
        (guard,) = program.calls(aten.add.Tensor)
        BinaryCall(guard).right = 0.0


def test_the_message_of_a_pass_names_the_cause_beside_the_site() -> None:
    with pytest.raises(PassError, match=r"block\.proj keeps -inf dB.*from aten\.div\.Tensor in 'block\.attn'"):
        Pipeline((_Unguard(),)).run(parse(GUARDED), Context(probe=[X]), [Compare()])
