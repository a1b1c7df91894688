"""Timing several things side by side: rounds in which all take turns, so that all see the same clock speed and heat.

The clock is handed in: CUDA's own on a GPU, the wall clock in a dry run, a pretended one in tests.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

Work = Callable[[], object]
ROUNDS = 20
AT_LEAST_MS = 5.0
"""In a round each runs for so long."""


class Clock(Protocol):
    """What knows how long work takes."""

    def milliseconds(self, work: Work, times: int) -> float:
        """Of one run, the mean of so many without a gap."""
        ...


@dataclass(frozen=True)
class Spread:
    """Milliseconds of one run: the median of the rounds, its quartiles, the least and the most."""

    median: float
    low: float
    high: float
    least: float
    most: float


def interleave(
    works: Mapping[str, Work], clock: Clock, rounds: int = ROUNDS, at_least_ms: float = AT_LEAST_MS
) -> dict[str, Spread]:
    """The spread of each; every other round goes the opposite way, so that nobody always follows the same one."""
    counts = {name: _count(clock.milliseconds(work, 3), at_least_ms) for name, work in works.items()}
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds):
        for name in list(works) if turn % 2 else list(works)[::-1]:
            times[name].append(clock.milliseconds(works[name], counts[name]))
    return {name: spread_of(each) for name, each in times.items()}


def spread_of(times: list[float]) -> Spread:
    """Of at least one time."""
    low, median, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    return Spread(median, low, high, min(times), max(times))


def _count(once_ms: float, at_least_ms: float) -> int:
    """How many runs a round takes."""
    return max(1, round(at_least_ms / once_ms)) if once_ms > 0 else 1
