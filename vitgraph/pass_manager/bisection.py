"""Which pass, and which of its rewrites, is the first that breaks a program: a search over `Context.fuel`.

A pipeline asks for one unit of fuel as a pass starts, and a pass asks for one at each site it rewrites. With a fuel of
n, the first n units are spent as they are in the whole run and nothing happens after them, so if the program is good
after n units and bad after n + 1, unit n + 1 is to blame (A. Zeller, "Yesterday, my program worked", ESEC/FSE 1999,
for one change at a time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vitgraph.errors import InputError, MachineError, VitgraphError
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Instrument, Pipeline, show_pass

ProgramCheck = Callable[[Program], str | None]
"""What is wrong with a program, or None where it is good."""


@dataclass(frozen=True)
class Culprit:
    """The first rewrite that breaks the program."""

    step: str
    """The pass with its options."""
    position: int
    """Its place in the pipeline, from 1."""
    site: str | None
    """Where the pass breaks it; None where it does so before it asks for any site."""
    units: int
    """Units of fuel spent up to and with it."""
    total: int
    """Units of fuel that the pipeline spends, to its end or to the error that stops it."""
    why: str
    """What the check says of the first bad program."""
    runs: int
    """How many times the pipeline was run."""

    def to_json(self) -> dict[str, Any]:
        """The answer of `vitgraph bisect --json`."""
        return {
            "pass": self.step,
            "position": self.position,
            "site": self.site,
            "fuel": self.units,
            "fuel_spent": self.total,
            "why": self.why,
            "runs": self.runs,
        }


def bisect(
    program: Program,
    pipeline: Pipeline,
    make_context: Callable[[int | None], Context],
    judge: ProgramCheck,
    make_instruments: Callable[[], Sequence[Instrument]] = lambda: (),
) -> Culprit:
    """Find the first bad rewrite; `make_context` takes the fuel, and an error of a pass or an instrument counts as bad.

    Raises `InputError` where the program is bad before the first pass, or good after the last.
    """
    search = _Search(program, pipeline, make_context, judge, make_instruments)
    if (why := search.try_fuel(0)[0]) is not None:
        raise InputError(f"{program.name} fails the check before any pass has run, so no pass is to blame: {why}")
    why, spent = search.try_fuel(None)
    if why is None:
        raise InputError(f"{program.name} passes the check after the whole pipeline: there is nothing to find")
    good, bad = 0, len(spent)
    if bad == 0:
        raise InputError(f"the check fails although no pass ran: {why}")
    while bad - good > 1:
        middle = (good + bad) // 2
        found, _ = search.try_fuel(middle)
        good, bad, why = (middle, bad, why) if found is None else (good, middle, found)
    name, site = spent[bad - 1]
    position = sum(1 for _, where in spent[:bad] if where == "")
    step = pipeline.passes[position - 1]
    assert step.name == name
    return Culprit(show_pass(step), position, site or None, bad, len(spent), why, search.runs)


@dataclass
class _Search:
    program: Program
    pipeline: Pipeline
    make_context: Callable[[int | None], Context]
    judge: ProgramCheck
    make_instruments: Callable[[], Sequence[Instrument]]
    runs: int = 0

    def try_fuel(self, fuel: int | None) -> tuple[str | None, list[tuple[str, str]]]:
        """What is wrong after so much fuel, and how it was spent."""
        self.runs += 1
        context = self.make_context(fuel)
        try:
            result = self.pipeline.run(self.program, context, self.make_instruments())
        except (InputError, MachineError):  # nothing that a pass did
            raise
        except VitgraphError as error:
            return str(error), context.spent
        return self.judge(result), context.spent
