"""Works that take turns, each timed by its own watch, so that all see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vitgraph.progress import Progress, silent

if TYPE_CHECKING:
    from vitgraph.runtime.accelerator import Accelerator

Watch = Callable[[], float]
"""Runs a work once and gives the seconds that it took."""


def by_clock(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Watch:
    """Seconds of the processor's clock; the work returns when it is done."""

    def watch() -> float:
        start = clock()
        work()
        return clock() - start

    return watch


def by_events(work: Callable[[], object], device: Accelerator) -> Watch:
    """Seconds between two events on a device around what the work puts into its queue."""
    return lambda: device.seconds(work)


def take_turns(watches: Sequence[Watch], rounds: int, warm_up: int, progress: Progress = silent) -> list[list[float]]:
    """Seconds of every run by each watch: each round runs all of them, and every other round in the opposite order."""
    for watch in watches:
        for _ in range(warm_up):
            watch()
    times = [list[float]() for _ in watches]
    order = list(range(len(watches)))
    for turn in range(rounds):
        for index in order if turn % 2 == 0 else reversed(order):
            times[index].append(watches[index]())
        progress("rounds", turn + 1, rounds)
    return times


def run_rounds(
    works: Sequence[Callable[[], object]],
    rounds: int,
    warm_up: int,
    progress: Progress = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """The same for works that are timed by a clock."""
    return take_turns([by_clock(work, clock) for work in works], rounds, warm_up, progress)
