"""The harness itself can fail: each of its checks has a pass that breaks it."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from tests.harness import check, hold_to_text
from vitgraph.errors import PassError
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass

BEFORE = """
x: f32[2, 8] = input()
relu: f32[2, 8] = aten.relu.default(x)
return_(relu)
"""
SCALED = """
x: f32[2, 8] = input()
relu: f32[2, 8] = aten.relu.default(x)
mul: f32[2, 8] = aten.mul.Tensor(relu, 1.01)
return_(mul)
"""


@dataclass(frozen=True)
class _ScaleOnce(Pass):
    """Wrong by one per cent."""

    name: ClassVar[str] = "scale-once"
    effect: ClassVar[Effect] = Effect.REORDERS

    def run(self, program: Program, context: Context) -> None:
        """Multiply the output, unless that has been done."""
        last = program.calls()[-1]
        if last.target is aten.relu.default:
            new = program.insert(program.output, aten.mul.Tensor, last, 1.01)
            program.output.args = (new,)


@dataclass(frozen=True)
class _ScaleAgain(_ScaleOnce):
    """Never content with what it did."""

    name: ClassVar[str] = "scale-again"
    effect: ClassVar[Effect] = Effect.LOSSY

    def run(self, program: Program, context: Context) -> None:
        """Multiply the output, always."""
        new = program.insert(program.output, aten.mul.Tensor, program.calls()[-1], 1.01)
        program.output.args = (new,)


@dataclass(frozen=True)
class _Invalid(Pass):
    """Leaves a type that is not so."""

    name: ClassVar[str] = "invalid"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, program: Program, context: Context) -> None:
        """Put an operator there that the dialect lacks."""
        for node in program.calls(aten.relu.default):
            node.target = aten.relu6.default


def test_numbers_are_held_even_where_the_text_is_as_expected() -> None:
    with pytest.raises(AssertionError, match="declared reorders"):
        check(_ScaleOnce(), BEFORE, SCALED)


def test_text_is_held() -> None:
    with pytest.raises(AssertionError, match="text differs"):
        check(_ScaleOnce(), BEFORE, BEFORE)


def test_a_second_run_is_held() -> None:
    with pytest.raises(AssertionError, match="second run"):
        check(_ScaleAgain(), BEFORE, SCALED)


def test_validity_is_held() -> None:
    with pytest.raises(PassError, match="not of the dialect"):
        check(_Invalid(), BEFORE, BEFORE)


def test_a_program_that_is_not_its_text_is_held() -> None:
    program = parse(BEFORE)
    hold_to_text(program)
    program.calls()[0].target = aten.tanh.default  # without recompiling
    with pytest.raises(AssertionError, match="computes something else"):
        hold_to_text(program)
