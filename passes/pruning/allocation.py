"""How much each part of a model loses, so that all together cost what a budget allows and lose least.

    minimize Σ loss(kᵢ)  with  Σ cost(kᵢ) ≤ budget

At the optimum every part pays the same for the last thing it gave up: the slopes -Δloss/Δcost of all are equal (LPViT,
arXiv 2407.02068, eq. of the Pareto slope). So one slope decides for all parts, and bisection finds it. A part goes
along its curve's lower convex hull, where a steeper slope never gives up less; between two slopes the parts go on in
their order, one step at a time, until the budget is met.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

POINTS = 101
"""Of a curve: shares of 0, 0.01, … 1."""


@dataclass(frozen=True)
class Part:
    """One curve."""

    name: str
    steps: tuple[int, ...]
    """How many things may be lost: ascending from 0."""
    loss: Callable[[int], float]
    """What it costs the model to lose so many."""
    cost: Callable[[int], float]
    """What is left to compute; falls with every step, or stays."""

    @cached_property
    def points(self) -> list[int]:
        """Which of the steps are looked at: the nearest to 101 even shares."""
        last = len(self.steps) - 1
        return sorted({round(last * share / (POINTS - 1)) for share in range(POINTS)})

    @cached_property
    def hull(self) -> list[tuple[int, float]]:
        """Steps on the lower convex hull of loss over what is saved, with the slope that leads to each."""
        found = [(0, -inf)]
        saved = {at: self.cost(0) - self.cost(self.steps[at]) for at in self.points}
        lost = {at: self.loss(self.steps[at]) for at in self.points}

        def slope(start: int, end: int) -> float:
            gain = saved[end] - saved[start]
            return (lost[end] - lost[start]) / gain if gain > 0 else inf

        for at in self.points[1:]:
            while slope(found[-1][0], at) <= found[-1][1]:
                found.pop()
            if slope(found[-1][0], at) < inf:
                found.append((at, slope(found[-1][0], at)))
        return found

    def at_slope(self, slope: float) -> int:
        """The step that is reached with this slope."""
        return max(at for at, least in self.hull if least <= slope)

    def slope_at(self, step: int) -> float:
        """The slope that leads to this step."""
        return next((slope for at, slope in self.hull if at >= step), inf)

    def at_share(self, share: float) -> int:
        """The step that loses at most this share."""
        return int(share * (len(self.steps) - 1))


def allocate(parts: Sequence[Part], budget: float, uniform: bool = False, slack: float = inf) -> list[int]:
    """How many things each part loses; `even`: the same share of each. All that may be lost where the budget is out of reach.

    Where coarse steps leave more than `slack` of the budget unused, what is worth most is restored in finer ones.
    """
    if uniform:
        found = _meet(parts, budget, [share / 1000 for share in range(1001)], Part.at_share)
    else:
        found = _meet(parts, budget, sorted({slope for part in parts for _, slope in part.hull}), Part.at_slope)
    left = sum(part.cost(part.steps[at]) for part, at in zip(parts, found, strict=True))
    if budget - left > slack:
        found = _given_back(parts, found, budget - left)
    return [part.steps[at] for part, at in zip(parts, found, strict=True)]


def _given_back(parts: Sequence[Part], steps: Sequence[int], unused: float) -> list[int]:
    """The same with as much back as the budget has room for, the steepest slope first."""
    found = list(steps)
    for position in sorted(range(len(parts)), key=lambda position: -parts[position].slope_at(steps[position])):
        part, end = parts[position], steps[position]
        room = part.cost(part.steps[end]) + unused
        found[position] = bisect_left(range(end), -room, key=lambda at: -part.cost(part.steps[at]))
        unused = room - part.cost(part.steps[found[position]])
    return found


def _meet(
    parts: Sequence[Part], budget: float, levels: Sequence[float], step: Callable[[Part, float], int]
) -> list[int]:
    """Steps: bisect over levels to the first that meets the budget, then go on to it part by part from the level before."""

    def spent(level: float) -> float:
        return sum(part.cost(part.steps[step(part, level)]) for part in parts)

    first = bisect_left(levels, -budget, hi=len(levels) - 1, key=lambda level: -spent(level))
    low = [0 if first == 0 else step(part, levels[first - 1]) for part in parts]
    high = [step(part, levels[first]) for part in parts]
    left = sum(part.cost(part.steps[at]) for part, at in zip(parts, low, strict=True))
    for position, (part, start, end) in enumerate(zip(parts, low, high, strict=True)):
        others = left - part.cost(part.steps[start])
        reached = bisect_left(range(start, end), -budget, key=lambda at: -(others + part.cost(part.steps[at])))
        low[position] = start + reached
        left = others + part.cost(part.steps[low[position]])
        if left <= budget:
            break
    return low
