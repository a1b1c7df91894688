"""What a report says of each site of a plan: what it became, by which kernel, why, and how long that would take."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vitgraph.backends.cuda.plan import Plan, SiteChoice
from vitgraph.cost.fusion import find_kernels
from vitgraph.cost.kernel import Kernel
from vitgraph.cost.roofline import Roofline, roofline
from vitgraph.cost.workload import BITS, DENSE, Gemm
from vitgraph.ir.program import Program
from vitgraph.targets.target import Target

NOT_MEASURED = "nothing ran on a GPU"


def describe_sites(program: Program, plan: Plan, target: Target, batch: int) -> list[dict[str, Any]]:
    """A row for each site, in the order of the plan, its time estimated for the target at this batch.

    `estimated_us` is null where `estimated_why` says why; `measured_us` is null until something ran.
    """
    line, kernels = roofline(target), defaultdict[str, list[Kernel]](list)
    for kernel in find_kernels(program):
        if kernel.work is not None:
            kernels[kernel.path].append(kernel)
    return [_row(site, kernels[site.path], line, batch) for site in plan.sites]


def _row(site: SiteChoice, kernels: list[Kernel], line: Roofline | str, batch: int) -> dict[str, Any]:
    us, why = _estimate(site, kernels, line, batch)
    return {
        "path": site.path,
        "kind": site.kind,
        "format": site.format,
        "kernel": site.kernel,
        "epilogue": list(site.epilogue),
        "why": site.why or None,
        "estimated_us": us,
        "estimated_why": why,
        "measured_us": None,
        "measured_why": NOT_MEASURED,
    }


def _estimate(
    site: SiteChoice, kernels: list[Kernel], line: Roofline | str, batch: int
) -> tuple[float | None, str | None]:
    """Microseconds in the format that the plan has, or why there is no estimate; a module that runs twice has two kernels."""
    if isinstance(line, str):
        return None, line
    kind, _, pattern = site.format.partition(" ")
    if not kernels or kind not in BITS:
        return None, "the cost model has no kernel of this site"
    kernel = kernels.pop(0).in_type(kind, None if pattern else DENSE)
    refused = line.refusal(kind)
    if refused:
        return None, refused
    ms = kernel.estimate(line, batch).ms + (_second_pass(kernel, line, batch) if site.kernel == "sparse linear" else 0)
    return float(f"{ms * 1e3:.4g}"), None


def _second_pass(kernel: Kernel, line: Roofline, batch: int) -> float:
    """Milliseconds of the pass after a sparse product: its FP16 result is written and read once more."""
    assert isinstance(kernel.work, Gemm)
    return line.move(2 * 2 * kernel.work.m * kernel.work.n * batch).ms
