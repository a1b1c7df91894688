"""Progress of long work on standard error: what, how far, and how long it may still take.

A terminal has bars; a file or a pipe gets a line every few seconds, and nothing of work that takes less.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from vitgraph.logs import only_errors
from vitgraph.progress import NOTE, Progress

PAUSE = 5.0
"""Seconds from one line to the next."""


@contextmanager
def show_progress() -> Generator[Progress]:
    """A function to be told (what, done, total); silent where only errors are told (`--quiet`)."""
    if only_errors():
        yield lambda what, done, total: None
        return
    if not sys.stderr.isatty():
        yield Lines().tell
        return
    with _bars() as tell:
        yield tell


class Lines:
    """Progress as lines: of each piece of work one every few seconds, and a last one where there was a line."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = dict[str, tuple[float, int]]()
        self._told = dict[str, int]()
        self._last = clock()

    def tell(self, what: str, done: int, total: int) -> None:
        """Note how far the work is, and print it where it is time to."""
        name, _, note = what.partition(NOTE)
        now = self._clock()
        start, first = self._started.setdefault(name, (now, done))
        finished = done >= total and self._told.get(name, done) < done
        if now - self._last < PAUSE and not finished:
            return
        self._last, self._told[name] = now, done
        rest = _rest(now - start, done - first, total - first)
        print(f"vitgraph: {name}: {done} of {total}{rest}{note and ', '}{note}", file=sys.stderr, flush=True)


def _rest(spent: float, done: int, total: int) -> str:
    """How long it took, or may still take, in seconds."""
    if done >= total:
        return f", {spent:.0f} s"
    return f", about {spent / done * (total - done):.0f} s left" if done and spent else ""


@contextmanager
def _bars() -> Generator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks = dict[str, TaskID]()
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:

        def tell(what: str, done: int, total: int) -> None:
            name, _, note = what.partition(NOTE)
            if name not in tasks:
                tasks[name] = drawn.add_task(name, total=total)
            drawn.update(tasks[name], completed=done, total=total, description=f"{name}{note and ', '}{note}")

        yield tell
