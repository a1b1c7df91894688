"""The search of `mixed-precision`: which switches fall back to floating point so that a budget is kept, by measuring and not by rule.

Greedy and re-measured: each step lets the switch fall back that lowers the divergence most for what it costs in INT8. What
letting a switch fall back is worth changes with what is off already: beside one very bad site no other seems worth anything. So
before each step the best few are measured again, and all of them once the divergence has halved. Steps grow with what has
been taken, so that a hard budget costs some twenty steps and not hundreds. At the end, what turned out not to be needed is
put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vitgraph.quantizing.sensitivity import Damage, Sensitivity
from vitgraph.quantizing.switches import Switch, Switches

_AGAIN = 5
"""How many are measured again before a step, at least: so many of those that were worth most when last measured, and so
many of those that do most harm alone."""


@dataclass(frozen=True)
class FallbackBudget:
    """What a placement must keep to; None: no bound."""

    max_drop: float | None
    max_float_layers: int | None
    min_int8: int

    def allows(self, off: frozenset[Switch], switches: Switches) -> str | None:
        """Which bound this set of switches would break; None where it breaks none."""
        if self.max_float_layers is not None and sites_in(off) > self.max_float_layers:
            return f"max_float_layers={self.max_float_layers} leaves no room for it"
        if sum(each.is_linear and each not in off for each in switches.all) < self.min_int8:
            return f"min_int8={self.min_int8} keeps it"
        return None


def sites_in(off: Iterable[Switch]) -> int:
    """How many sites these are: an output pair that goes with its linear is none of its own."""
    off = list(off)
    linears = {each.nodes for each in off if each.is_linear}
    return sum(each.role != "output" or each.nodes not in linears for each in off)


@dataclass
class FallbackSearch:
    """Finds what falls back; the answer is in `roots` (chosen), `off` (those and what goes with them) and `damage`."""

    measure: Sensitivity
    switches: Switches
    candidates: Sequence[Switch]
    budget: FallbackBudget
    damage: Damage
    """With nothing fallen back, to begin with."""
    gains: dict[Switch, float]
    """By how much the divergence falls for each site given up, if only this falls back."""
    alone: dict[Switch, float]
    """The divergence of each switch by itself."""
    roots: list[Switch] = field(default_factory=list[Switch])
    first: list[Switch] = field(default_factory=list[Switch])
    """Those of the roots that fell back for another reason than what they cost."""
    why: dict[Switch, str] = field(default_factory=dict[Switch, str])
    measured_at: float = field(init=False)
    """The divergence when all gains were measured last."""

    def __post_init__(self) -> None:
        self.measured_at = self.damage.divergence

    @property
    def off(self) -> frozenset[Switch]:
        """Everything that falls back."""
        return self._with(())

    @property
    def met(self) -> bool:
        """Whether the drop is within the budget."""
        return self.budget.max_drop is None or self.damage.drop <= self.budget.max_drop

    def take_first(self, some: Sequence[Switch]) -> None:
        """Let these fall back, as far as the bounds on their number allow: INT8 buys them no time, and they are not put back."""
        for switch in some:
            refusal = self.budget.allows(self._with([switch]), self.switches)
            if refusal is None:
                self.first.append(switch)
                self.roots.append(switch)
            self.why[switch] = refusal or "unprofitable: INT8 buys it no time on the device"
        if self.first:
            self.damage = self.measure.without(self.off, what="mixed precision: fallen back")[0]

    def run(self) -> None:
        """Let switches fall back until the budget is met or nothing more may go, then restore what was not needed."""
        if self.budget.max_drop is None and self.budget.max_float_layers is None:
            return
        while self.budget.max_drop is None or not self.met:
            step = self._pick()
            if not step:
                break
            self._take(step)
        if self.budget.max_drop is not None and self.met:
            self._put_back()

    def _with(self, more: Iterable[Switch]) -> frozenset[Switch]:
        return frozenset[Switch]().union(*(self.switches.off(root) for root in (*self.roots, *more)))

    def _pick(self) -> list[Switch]:
        """The next to go: the best of those measured again; without a bound on the drop only what helps."""
        size = max(1, len(self.roots) // 4)
        some = self.allowed()
        if self.roots and some:
            some = self._worth_measuring(some, max(_AGAIN, size))
            self._measure_gains(some)
        step = sorted(some, key=lambda switch: -self.gains[switch])
        return [switch for switch in step if self.budget.max_drop is not None or self.gains[switch] > 0][:size]

    def _worth_measuring(self, allowed: list[Switch], count: int) -> list[Switch]:
        """All, where what was measured last was measured beside something far worse; else the few that look best."""
        if self.damage.divergence < self.measured_at / 2:
            self.measured_at = self.damage.divergence
            return allowed
        worth, harm = (sorted(allowed, key=lambda switch: -by[switch])[:count] for by in (self.gains, self.alone))
        return list(dict.fromkeys([*worth, *harm]))

    def allowed(self) -> list[Switch]:
        """The candidates that may still go; of the others, `why` says which bound keeps them."""
        off, found = self.off, list[Switch]()
        for switch in self.candidates:
            if switch in off:
                continue
            refusal = self.budget.allows(self._with([switch]), self.switches)
            if refusal is None:
                found.append(switch)
            else:
                self.why[switch] = refusal
        return found

    def _measure_gains(self, some: list[Switch]) -> None:
        after = self.measure.without(self.off, [self._with([switch]) for switch in some], "placement: next to go")
        for switch, damage in zip(some, after[1:], strict=True):
            cost = sites_in(self._with([switch])) - sites_in(self.off)
            self.gains[switch] = (after[0].divergence - damage.divergence) / max(1, cost)

    def _take(self, step: list[Switch]) -> None:
        for switch in step:
            if self.budget.allows(self._with([switch]), self.switches) is None:
                self.roots.append(switch)
        before, self.damage = self.damage, self.measure.without(self.off, what="mixed precision: fallen back")[0]
        moved = (
            f"divergence {before.divergence:.3g} -> {self.damage.divergence:.3g} nats, "
            f"expected drop {before.drop:.3g} -> {self.damage.drop:.3g} points"
        )
        for switch in step:
            self.why[switch] = f"worth most: {moved}" + (f", with {len(step) - 1} others" if len(step) > 1 else "")

    def _put_back(self) -> None:
        """Put roots back one by one while the budget holds; the one that costs least first."""
        open_ = [root for root in self.roots if root not in self.first]
        while open_:
            rests = [[other for other in self.roots if other is not root] for root in open_]
            sets = [frozenset[Switch]().union(*(self.switches.off(root) for root in rest)) for rest in rests]
            found = self.measure.without(self.off, sets, "placement: put back")[1:]
            fitting = [i for i, each in enumerate(found) if each.drop <= (self.budget.max_drop or 0.0)]
            if not fitting:
                return
            back = min(fitting, key=lambda i: found[i].divergence)
            self.why[open_[back]] = "put back: the budget holds with it in INT8"
            self.roots, self.damage = rests[back], found[back]
            open_ = [open_[i] for i in fitting if i != back]
