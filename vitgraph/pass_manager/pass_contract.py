"""What a pass is: a frozen value with a name, typed options and a declared effect; and what it is given to work with."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import Finding
from vitgraph.pass_manager.options import check_options
from vitgraph.progress import Progress, silent
from vitgraph.targets.target import Target

NO_IMAGES = (
    "no calibration images; name some with --calibration-data: a folder, a .zip, or `random` for noise;"
    " in Python hand in `data` or `calibration_data`"
)


class Effect(Enum):
    """How far a pass may move the numbers; the numeric check takes its tolerance from here."""

    EXACT = "exact"
    """Bit for bit."""
    REORDERS = "reorders"
    """The same mathematics, other rounding."""
    RANKING = "ranking"
    """Other numbers, the same order of the outputs along their last dimension."""
    LOSSY = "lossy"
    """Other mathematics: judged site by site by a signal-to-noise floor, and by accuracy."""


@dataclass(frozen=True)
class Refusal:
    """A site that a pass left alone, and why."""

    site: str
    why: str


@dataclass
class Context:
    """What a pass may ask for besides the program, and where it records what it did not do."""

    target: Target | None = None
    probe: Sequence[Tensor] = ()
    """A batch to compare numbers on: one tensor for each input of the program."""
    calibration: Images | None = None
    progress: Progress = silent
    """Told (what, done, total) during long work."""
    scratch: Path | None = None
    """A folder in which long work may keep what it has finished, to go on there when it is started again."""
    fuel: int | None = None
    """How many more rewrites may be done; None for any number. `vitgraph bisect` searches over it."""
    spent: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """The rewrites that were allowed: (pass, where)."""
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    findings: list[Finding] = field(default_factory=list[Finding])
    """What passes found; goes into the ledger entry of the pass as plain JSON (key `found`)."""
    timings: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds of work that the report shows by itself, such as `calibration`."""
    durations: list[float] = field(default_factory=list[float])
    """Seconds of each pass that ran. They are no part of the program's ledger: the same passes leave the same program."""

    @property
    def images(self) -> Images:
        """The calibration images, for a pass that declares `needs_images`; `InputError` where there are none."""
        if self.calibration is None:
            raise InputError(NO_IMAGES)
        return self.calibration

    @contextmanager
    def timed(self, what: str) -> Generator[None]:
        """Add the time of a block to `timings`."""
        start = time.perf_counter()
        yield
        self.timings[what] = self.timings.get(what, 0.0) + time.perf_counter() - start

    def refuse(self, site: str, why: str) -> None:
        """Record that a site was left alone; `why` is one clause a user understands."""
        self.refusals.append(Refusal(site, why))

    def take(self, name: str, where: str) -> bool:
        """Ask to do one rewrite of pass `name` at `where`; False once the fuel is used up."""
        if self.fuel is not None and len(self.spent) >= self.fuel:
            return False
        self.spent.append((name, where))
        return True


@dataclass(frozen=True)
class Pass:
    """One rewrite, done in place. Subclasses are frozen dataclasses whose fields are their options.

    A pass is handed a valid program and leaves a valid one; in between it may do as it likes. It registers new tensors
    and never writes into existing ones.
    """

    name: ClassVar[str]
    effect: ClassVar[Effect]
    floor_db: ClassVar[float] = 3.0
    """For `LOSSY`: the least signal-to-noise ratio, in decibels, that a site may have when its input is clean."""
    under_floor: ClassVar[str] = ""
    """What a user can do where sites lose more than that: one clause."""
    without_images: ClassVar[str] = ""
    """With which options the pass takes no images, where there are such: one clause."""

    judges_classes: ClassVar[str] = ""
    """What the pass does with the classes that a model gives, where it can't do without: one clause, remedy and all."""

    for_engine: ClassVar[bool] = False
    """Whether it turns the program into what an engine takes: a program that is to be trained stops short of it."""

    def declares(self) -> Effect:
        """The effect of this pass with these options."""
        return self.effect

    @property
    def needs_images(self) -> bool:
        """Whether these options take calibration images; a pass that says no is not to look at any."""
        return False

    def check(self, target: Target | None, images: Images | None) -> None:
        """Raise `InputError` for options that can't be had, on this target, with these images, or at all.

        Asked of every pass of a pipeline before the first one runs; what the sizes of a program decide is left to `run`.
        Passes whose options depend on each other add their rules to these.
        """
        check_options(self)
        if self.needs_images and images is None:
            raise InputError(f"{NO_IMAGES}{self.without_images and f' ({self.without_images})'}")

    def run(self, program: Program, context: Context) -> None:
        """Rewrite the program. Raises `InputError` where its sizes do not allow what an option asks for."""
        raise NotImplementedError(type(self).__name__)
