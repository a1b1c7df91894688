"""Which INT8 linears buy time on a device that was measured: one verdict for each, and what falling back to FP16 gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from vitgraph.cost.fusion import find_kernels
from vitgraph.cost.kernel import Kernel
from vitgraph.cost.measured_choice import FormChoice, choose, told
from vitgraph.cost.measured_times import MeasuredTimes
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.program import Program

if TYPE_CHECKING:
    from vitgraph.compile.report import AccuracyPart


@dataclass(frozen=True)
class Int8Verdict:
    """One row: a site's fastest INT8 form beside FP16, in microseconds of a batch."""

    site: str
    format: str
    """`int8` or `int8 2:4`, whichever is faster."""
    us_int8: float
    us_fp16: float
    source: str
    """Where the two products' times are from: measured, corrected or estimated."""
    pays: bool
    why: str


@dataclass(frozen=True)
class Int8Profit:
    """The verdicts, and the accuracy with every site in INT8, where images measure it."""

    verdicts: Sequence[Int8Verdict]
    all_int8: AccuracyPart | None
    all_int8_why: str | None

    def against(self, kept: AccuracyPart | None) -> dict[str, Any]:
        """The report's key `int8_profit`, beside the accuracy with the sites that stayed; what is gained is as measured as the rows' `source`."""
        idle = [verdict for verdict in self.verdicts if not verdict.pays]
        before = None if self.all_int8 is None else self.all_int8.top1
        after = None if kept is None else kept.top1
        return {
            "kept": len(self.verdicts) - len(idle),
            "fallen_back": len(idle),
            "us_gained": _rounded(sum(verdict.us_int8 - verdict.us_fp16 for verdict in idle)),
            "top1_all_int8": before,
            "top1_regained": None if before is None or after is None else round(after - before, 3),
            "top1_why": self.all_int8_why or (None if kept is None else kept.top1_why),
            "sites": [asdict(verdict) for verdict in self.verdicts],
        }


def judge_int8(program: Program, times: MeasuredTimes, batch: int = 1) -> list[Int8Verdict]:
    """A verdict for every linear that computes in INT8, in graph order; the program is a compiled one, in its final types.

    Linears of one module fall back together, or none of them.
    """
    linears = {path_of(node) for node in program.calls(aten.linear.default)}
    found = list[Int8Verdict]()
    for kernel in find_kernels(program):
        choice = choose(kernel, times, batch) if kernel.kind == "int8" and kernel.path in linears else None
        if choice is not None and "fp16" in choice.times:
            found.append(_verdict(kernel, choice, times, batch))
    kept = {verdict.site for verdict in found if verdict.pays}
    return [_together(verdict, kept) for verdict in found]


def _verdict(kernel: Kernel, choice: FormChoice, times: MeasuredTimes, batch: int) -> Int8Verdict:
    form = choice.int8
    assert form is not None, "the kernel computes in INT8"
    sources = dict.fromkeys((choice.times[form].source, choice.times["fp16"].source))
    return Int8Verdict(
        site=kernel.path,
        format=form,
        us_int8=_rounded(choice.us(form)),
        us_fp16=_rounded(choice.us("fp16")),
        source=" and ".join(sources),
        pays=choice.gains(form, "fp16"),
        why=told(choice, times, batch),
    )


def _together(verdict: Int8Verdict, kept: set[str]) -> Int8Verdict:
    if verdict.pays or verdict.site not in kept:
        return verdict
    why = f"another linear of this module pays; it by itself: {verdict.why}"
    return replace(verdict, pays=True, why=why)


def _rounded(us: float) -> float:
    return float(f"{us:.4g}")
