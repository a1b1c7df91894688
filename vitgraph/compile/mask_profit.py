"""Which N:M masks buy time on a target: one verdict for each masked site, by estimate or by an engine's own choice.

An estimate asks the cost model twice, for the kernel as it is compiled (type, batch, neighbours fused into it) with its
zeros and without. What was measured on the device is better: layers of an engine, whose builder timed both kinds of kernel and
took a sparse one or did not; or times of products (`vitgraph.cost.measured_times`), by which a mask pays where it is faster
than the fastest dense form of its site, FP16 among them. The saliency lost is what the mask's own score says of what was dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from vitgraph.cost.fusion import find_kernels
from vitgraph.cost.kernel import Kernel
from vitgraph.cost.measured_choice import choose, told
from vitgraph.cost.measured_times import MeasuredTimes
from vitgraph.cost.roofline import Roofline, roofline
from vitgraph.cost.workload import DENSE
from vitgraph.errors import InputError
from vitgraph.ir.mask_patterns import site_keys
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import MaskFinding, findings_of
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.targets.target import Target

if TYPE_CHECKING:
    from vitgraph.compile.report import AccuracyPart

MeasuredLayers = Mapping[str, str | None]
"""By module path, the sparse kernel that a builder took for it, or None where it took a dense one."""
Evidence = MeasuredLayers | MeasuredTimes


@dataclass(frozen=True)
class MaskVerdict:
    """One row of the decision table; times in microseconds are estimates, or have measured products in them, as `why` says; None where layers decided."""

    site: str
    mask: str
    saliency_lost: float | None
    """Share of the linear's output (squared error over squared norm, on calibration images) that masking cost, or of its
    weights' squared norm where no images were looked at."""
    estimated_us_dense: float | None
    estimated_us_masked: float | None
    pays: bool
    why: str


@dataclass(frozen=True)
class MaskProfit:
    """The verdicts, and the accuracy with every mask, where masks were dropped and images measure it."""

    verdicts: Sequence[MaskVerdict]
    all_masks: AccuracyPart | None
    all_masks_why: str | None

    def against(self, kept: AccuracyPart | None) -> dict[str, Any]:
        """The report's key `mask_profit`, beside the accuracy with the masks that were kept."""
        before = None if self.all_masks is None else self.all_masks.top1
        after = None if kept is None else kept.top1
        return {
            "kept": sum(verdict.pays for verdict in self.verdicts),
            "dropped": sum(not verdict.pays for verdict in self.verdicts),
            "top1_all_masks": before,
            "top1_regained": None if before is None or after is None else round(after - before, 3),
            "top1_why": self.all_masks_why or (None if kept is None else kept.top1_why),
            "sites": [asdict(verdict) for verdict in self.verdicts],
        }


def check_mask_profit(steps: Pipeline, target: Target, measured: Evidence | None, asked: bool = True) -> None:
    """Raise `InputError` where there is no mask to judge, or nothing to judge it by on this target.

    Times of products judge INT8 sites too, so that, unless masks were `asked` for, a pipeline that quantizes will do.
    """
    names = {step.name for step in steps.passes}
    if isinstance(measured, MeasuredTimes) and not asked and not names & {"nm-mask", "quantize"}:
        raise InputError("--measured: the pipeline masks and quantizes nothing; take a recipe such as sparse-int8")
    if "nm-mask" not in names and (asked or not isinstance(measured, MeasuredTimes)):
        raise InputError("--drop-unprofitable-masks: the pipeline has no nm-mask; take a recipe such as sparse-int8")
    line = roofline(target)
    if measured is None and not isinstance(line, Roofline):
        raise InputError(
            f"--drop-unprofitable-masks: no time can be estimated for {target.name} ({line}); give --measured the layers of an"
            " engine that was built on the device, or take another target"
        )


def judge_masks(
    program: Program, target: Target, batch: int = 1, measured: Evidence | None = None
) -> list[MaskVerdict]:
    """A verdict for every site that `nm-mask` masked, in its order; the program is a compiled one, in its final types.

    Raises `InputError` where measured speaks of none of these sites.
    """
    masked = findings_of(program.ledger, MaskFinding)
    times, layers = (measured, None) if isinstance(measured, MeasuredTimes) else (None, measured)
    if layers is not None and masked and not any(mask.masked in layers for mask in masked):
        raise InputError(
            f"--measured: its layers name none of the {len(masked)} masked sites, {masked[0].masked} the first;"
            " give the layers of this model's engine"
        )
    weighted = [kernel for kernel in find_kernels(program) if kernel.weights]
    kernels = dict(zip(site_keys(kernel.path for kernel in weighted), weighted, strict=True))
    line = roofline(target)
    found = list[MaskVerdict]()
    for mask in masked:
        site = mask.masked
        timed = None if times is None else _timed(mask, kernels[site, mask.place], times, batch)
        if timed is not None:
            found.append(timed)
        elif layers is not None and site in layers:
            taken = layers[site]
            why = f"the builder took {taken}" if taken else "the builder took a dense kernel"
            found.append(_verdict(mask, None, None, taken is not None, why))
        elif isinstance(line, Roofline):
            found.append(_estimated(mask, kernels[site, mask.place], line, batch))
        else:
            found.append(_verdict(mask, None, None, False, f"the measured does not name it, and {line}"))
    kept = {
        verdict.site for verdict in found if verdict.pays
    }  # a module's linears are skipped together, or none of them
    return [
        replace(verdict, pays=True, why=f"another linear of this module pays; it by itself: {verdict.why}")
        if verdict.site in kept and not verdict.pays
        else verdict
        for verdict in found
    ]


def _timed(mask: MaskFinding, kernel: Kernel, times: MeasuredTimes, batch: int) -> MaskVerdict | None:
    """By times of products on the device; None where they know nothing of such a kernel."""
    choice = choose(kernel, times, batch)
    if choice is None or choice.sparse is None:
        return None
    faster = choice.gains(choice.sparse, choice.dense)
    return _verdict(mask, choice.us(choice.dense), choice.us(choice.sparse), faster, told(choice, times, batch))


def _estimated(mask: MaskFinding, kernel: Kernel, line: Roofline, batch: int) -> MaskVerdict:
    as_masked, dense = kernel.estimate(line, batch), kernel.estimate(line, batch, DENSE)
    where = f"on {line.target.name} at batch {batch}"
    if line.usable(kernel.kind, kernel.zeros) == DENSE:
        why = f"no product in {kernel.kind} {where} skips {mask.pattern}"
    else:
        why = f"estimated {where}, bound by {as_masked.bound}"
    return _verdict(mask, 1e3 * dense.ms, 1e3 * as_masked.ms, as_masked.ms < dense.ms, why)


def _verdict(mask: MaskFinding, dense: float | None, masked: float | None, pays: bool, why: str) -> MaskVerdict:
    lost, us = mask.saliency_lost, (_rounded(dense), _rounded(masked))
    return MaskVerdict(mask.masked, str(mask.pattern), lost, *us, pays, why)


def _rounded(us: float | None) -> float | None:
    return None if us is None else float(f"{us:.4g}")


def without_masks(steps: Pipeline, sites: Sequence[str]) -> Pipeline:
    """The same pipeline, with these sites left dense."""
    changed = list[Any](steps.passes)
    for at, step in enumerate(changed):
        if step.name == "nm-mask":
            changed[at] = replace(step, skip=(*step.skip, *sites))
    return Pipeline(tuple(changed))
