"""What of a compiled program buys no time on the target, masks and INT8 sites, and the pipeline without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitgraph.compile.int8_profit import Int8Profit, Int8Verdict, judge_int8
from vitgraph.compile.mask_profit import MaskProfit, MaskVerdict, judge_masks, without_masks
from vitgraph.compile.opening import OpenedRequest, quantizes, with_placement
from vitgraph.cost.measured_times import MeasuredTimes
from vitgraph.ir.model_output import gives_features
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pipeline import Pipeline

if TYPE_CHECKING:
    from vitgraph.compile.report import AccuracyPart, Report


@dataclass(frozen=True)
class Profit:
    """The verdicts, None for what was not judged, and the accuracy ahead of what followed from them."""

    masks: Sequence[MaskVerdict] | None
    int8: Sequence[Int8Verdict] | None
    before: AccuracyPart | None = None
    before_why: str | None = "everything pays"

    @property
    def idle(self) -> bool:
        """Whether anything buys no time."""
        pays = [mask.pays for mask in self.masks or ()] + [site.pays for site in self.int8 or ()]
        return not all(pays)

    def applied(self, steps: Pipeline) -> Pipeline:
        """The same pipeline with the masks skipped, and the INT8 sites left in FP16 by `mixed-precision`."""
        dropped = [verdict.site for verdict in self.masks or () if not verdict.pays]
        unprofitable = tuple(dict.fromkeys(verdict.site for verdict in self.int8 or () if not verdict.pays))
        steps = without_masks(steps, dropped) if dropped else steps
        return with_placement(steps, {"unprofitable": unprofitable}) if unprofitable else steps

    def tell(self, report: Report) -> None:
        """Write `mask_profit` and `int8_profit`, beside the accuracy that the report has."""
        if self.masks is not None:
            report.mask_profit = MaskProfit(self.masks, self.before, self.before_why).against(report.accuracy)
        if self.int8 is not None:
            report.int8_profit = Int8Profit(self.int8, self.before, self.before_why).against(report.accuracy)


def judge(job: OpenedRequest, program: Program) -> Profit:
    """Judge a program as the pipeline left it. INT8 sites are judged by times of products, where `mixed-precision` can let them fall back."""
    batch, masked = job.batch.best, any(step.name == "nm-mask" for step in job.pipeline.passes)
    masks = judge_masks(program, job.target, batch, job.evidence) if masked else None
    placeable = quantizes(job.pipeline) and not gives_features(program)
    int8 = judge_int8(program, job.evidence, batch) if placeable and isinstance(job.evidence, MeasuredTimes) else None
    return Profit(masks, int8)
