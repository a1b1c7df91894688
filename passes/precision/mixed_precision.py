"""Let sites fall back from INT8 where it costs too much: measure every site on calibration images, and keep to a budget.

Before:
    xq = vitgraph.fake_quantize.default(x, x_scale, None)     # one channel of x is 1000 times the others
    y = aten.linear.default(xq, wq, b)

After:
    y = aten.linear.default(x, w, b)                          # assign-precision makes it FP16

Each switch (see `switches`) is measured twice against the same program in floating point: alone, everything else in
floating point; and all but it, everything else in INT8. Then the search in `fallback_search` lets fall back what is worth most.
No labels are needed: the drop is the one to expect if the floating-point program's confidence is right.

Linears in `unprofitable` fall back first, whatever they cost: `compile --measured` names those that are no faster in INT8 on the device.

A budget that can't be met is no error here: the best that was reached stays, and its findings say how close it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vitgraph.analysis.site_selectors import select
from vitgraph.domains import ImageCount, Natural, Points, Selectors
from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import PlacementFinding, SwitchFinding
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.precision.fallback_search import FallbackBudget, FallbackSearch, sites_in
from vitgraph.quantizing.sensitivity import Damage, Sensitivity
from vitgraph.quantizing.switches import Switch, Switches, find_switches, take_back


@dataclass(frozen=True)
class MixedPrecision(Pass):
    """Decide site by site, from measurements, what stays INT8."""

    name: ClassVar[str] = "mixed-precision"
    effect: ClassVar[Effect] = Effect.LOSSY
    judges_classes: ClassVar[str] = (
        "sites are weighed by the classes that a model gives: leave out max_drop, min_int8 and max_float_layers, and name "
        "sites to leave in floating point with quantize{skip=…}"
    )
    floor_db: ClassVar[float] = -math.inf  # it moves numbers back towards floating point, however far off they were

    max_drop: Points | None = None
    """How many points of top-1 INT8 may cost."""
    max_float_layers: Natural | None = None
    """How many sites may fall back at most; without max_drop: so many fall back, the worst ones."""
    min_int8: Natural = 0
    """How many linears stay INT8 at least."""
    unprofitable: Selectors = ()
    """These linears fall back first, as far as min_int8 and max_float_layers allow: INT8 buys them no time."""
    images: ImageCount = 32
    """How many calibration images to measure on."""
    only: Selectors = ()
    """Only these fall back; besides roles of linears there are `attention` and `output`."""
    skip: Selectors = ()
    """Leave these sites alone."""

    @property
    def needs_images(self) -> bool:
        """What INT8 costs is measured on images."""
        return True

    def run(self, program: Program, context: Context) -> None:
        """Measure, search, rewrite. Raises `InputError` for more linears in INT8 than there are."""
        switches = find_switches(program)
        if not switches.all:
            context.refuse("model", "nothing in it is quantized, so there is nothing to fall back")
            return
        linears = sum(switch.is_linear for switch in switches.all)
        if self.min_int8 > linears:
            raise InputError(
                f"mixed-precision: min_int8={self.min_int8}: only {linears} linears are INT8 to begin with"
            )
        candidates = select(switches.all, self.only, self.skip)
        measure = Sensitivity(program, context.images, self.images, context.progress)
        alone = measure.alone(switches.all)
        first, *without = measure.without([], [switches.off(switch) for switch in switches.all])
        gains = {
            switch: (first.divergence - damage.divergence) / sites_in(switches.off(switch))
            for switch, damage in zip(switches.all, without, strict=True)
        }
        harm = {switch: damage.divergence for switch, damage in zip(switches.all, alone, strict=True)}
        budget = FallbackBudget(self.max_drop, self.max_float_layers, self.min_int8)
        search = FallbackSearch(measure, switches, candidates, budget, first, gains, harm)
        search.take_first(self._unprofitable(switches))
        search.run()
        context.findings.append(self._verdict(search, first, len(measure)))
        context.findings += _table(search, alone, without)
        if not search.met:
            context.refuse(
                "model", f"expected to lose {search.damage.drop:.3g} points, over max_drop={self.max_drop:g}"
            )
        take_back(program, [s for s in switches.all if s in search.off and context.take(self.name, s.path)])

    def _unprofitable(self, switches: Switches) -> list[Switch]:
        """The linears that are named so; InputError for a selector that names no site."""
        named = select(switches.all, self.unprofitable) if self.unprofitable else []
        return [switch for switch in named if switch.is_linear]

    def _verdict(self, search: FallbackSearch, first: Damage, images: int) -> PlacementFinding:
        """The placement as a whole: what was asked and what came of it."""
        return PlacementFinding(
            placement="met" if search.met else "missed",
            max_drop=self.max_drop,
            expected_drop=round(search.damage.drop, 4),
            expected_drop_all_int8=round(first.drop, 4),
            agreement=round(search.damage.agreement, 3),
            kl=_short(search.damage.divergence),
            kl_all_int8=_short(first.divergence),
            float_layers=sites_in(search.off),
            int8_linears=sum(each.is_linear and each not in search.off for each in search.switches.all),
            images=images,
        )


def _table(search: FallbackSearch, alone: Sequence[Damage], without: Sequence[Damage]) -> list[SwitchFinding]:
    """One row for each switch: both measurements, the decision and its reason."""
    off = search.off
    return [
        SwitchFinding(
            site=switch.path,
            role=switch.role,
            kl_alone=_short(one.divergence),
            kl_all_but_one=_short(rest.divergence),
            decision="float" if switch in off else "int8",
            why=_reason(switch, search),
        )
        for switch, one, rest in zip(search.switches.all, alone, without, strict=True)
    ]


def _reason(switch: Switch, search: FallbackSearch) -> str:
    if switch in search.off and switch not in search.roots:
        return _goes_along(switch, search.switches, search.roots)
    if switch in search.why:
        return search.why[switch]
    if switch not in search.candidates:
        return "not among those that may fall back (only, skip)"
    if search.budget.max_drop is None and search.budget.max_float_layers is None:
        return "no budget asks for a fall back"
    return "the budget holds with it in INT8" if search.met else "falling back does not help"


def _goes_along(switch: Switch, switches: Switches, roots: list[Switch]) -> str:
    with_ = next(root for root in roots if switch in switches.off(root))
    law = (
        "an INT8 attention hands its output to an INT8 linear"
        if switch.role == "attention"
        else "a product in floating point has no INT8 output"
    )
    return f"goes with {with_.path}: {law}"


def _short(value: float) -> float:
    return float(f"{value:.4g}")
