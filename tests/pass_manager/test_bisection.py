"""The search over fuel: every place of a fault is found, in few runs, and a search without a fault says so."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from tests.planted import MLP
from vitgraph.errors import InputError, MachineError, PassError
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.bisection import bisect
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.pass_manager.pipeline import Pipeline

SITES = ("a", "b", "c")


@dataclass(frozen=True)
class Mark(Pass):
    """Leaves a mark in the program's name for each site it is allowed to rewrite."""

    name: ClassVar[str] = "mark"
    effect: ClassVar[Effect] = Effect.EXACT

    label: str = ""
    bad: str = ""
    """The site at which the mark is a bad one; `start` for as soon as the pass runs."""
    crash: bool = False

    def run(self, program: Program, context: Context) -> None:
        if self.bad == "start":
            program.name += "!"
        for site in SITES:
            if context.take(self.name, site):
                program.name += f" {self.label}{site}" + ("!" if site == self.bad else "")
                if site == self.bad and self.crash:
                    raise PassError("it fell over")


def judge(program: Program) -> str | None:
    return f"bad: {program.name}" if "!" in program.name else None


def context(fuel: int | None) -> Context:
    return Context(fuel=fuel)


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("site", SITES)
def test_finds_pass_and_site_wherever_they_are(position: int, site: str, crash: bool) -> None:
    steps = [Mark(label=f"p{number}") for number in range(4)]
    steps[position] = replace(steps[position], bad=site, crash=crash)
    verdict = bisect(parse(MLP), Pipeline(tuple(steps)), context, judge)
    assert (verdict.position, verdict.site) == (position + 1, site)
    assert verdict.step.startswith(f"mark{{label=p{position} bad={site}")
    assert verdict.runs <= 2 + math.ceil(math.log2(16))


def test_finds_a_pass_that_asks_for_no_site() -> None:
    verdict = bisect(parse(MLP), Pipeline((Mark(), Mark(bad="start"), Mark())), context, judge)
    assert (verdict.position, verdict.site) == (2, None)


def test_names_the_first_of_two() -> None:
    verdict = bisect(parse(MLP), Pipeline((Mark(), Mark(bad="b"), Mark(bad="a"))), context, judge)
    assert (verdict.position, verdict.site) == (2, "b")


@dataclass(frozen=True)
class Full(Pass):
    """Runs into a full disk once it may rewrite anything."""

    name: ClassVar[str] = "full"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, program: Program, context: Context) -> None:
        if context.take(self.name, "a"):
            raise MachineError("output o: can't be written: No space left on device")


def test_a_full_disk_is_no_fault_of_a_pass() -> None:
    with pytest.raises(MachineError):
        bisect(parse(MLP), Pipeline((Mark(), Full())), context, judge)


def test_leaves_the_program_alone() -> None:
    program = parse(MLP)
    bisect(program, Pipeline((Mark(bad="a"),)), context, judge)
    assert program.name == "mlp"


def test_says_when_the_program_is_bad_to_begin_with() -> None:
    program = parse(MLP.replace("mlp", "mlp!"))
    with pytest.raises(InputError, match="before any pass has run"):
        bisect(program, Pipeline((Mark(bad="a"),)), context, judge)


def test_says_when_nothing_is_bad() -> None:
    with pytest.raises(InputError, match="nothing to find"):
        bisect(parse(MLP), Pipeline((Mark(), Mark())), context, judge)
