"""What a program would take on every target, in the report's form: keys that begin with `estimated`, never measured ones.

estimated_by     the model, the batch, and what is taken for granted
estimated_ms     by target; null where `estimated_why` has the reason
estimated_mj     by target
estimated_bound  by target: launch, arithmetic or memory, whatever most of the time goes to
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitgraph.cost.kernel import Kernel, refusal, total
from vitgraph.cost.measured_mixture import mixture
from vitgraph.cost.measured_times import MeasuredTimes
from vitgraph.cost.paper_counts import PRUNED_ROLES
from vitgraph.cost.roofline import Estimate, Roofline, roofline
from vitgraph.cost.workload import DENSE, Zeros, two_of_four
from vitgraph.targets.target import Target, all_targets

FORMS: Mapping[str, tuple[str, Zeros]] = {
    "fp16": ("fp16", DENSE),
    "int8": ("int8", DENSE),
    "int8 2:4": ("int8", two_of_four("int8")),
}
"""What a program is compared with: all its values in one type, and these zeros in every linear of a block."""


def estimate_on(
    target: Target, kernels: Sequence[Kernel], batch: int = 1, times: MeasuredTimes | None = None
) -> Estimate | str:
    """A program's kernels one after another on one target, zeros skipped where that is faster; or why there is no estimate.

    Where products were measured on this target, their times replace estimates.
    """
    line = roofline(target)
    if not isinstance(line, Roofline):
        return line
    if times is not None and times.line.target.name == target.name:
        return refusal(kernels, line) or mixture(kernels, times, batch).total
    return refusal(kernels, line) or total(kernel.built(line, batch) for kernel in kernels)


def describe_estimates(
    kernels: Sequence[Kernel],
    batch: int = 1,
    targets: Sequence[Target] | None = None,
    times: MeasuredTimes | None = None,
) -> dict[str, Any]:
    """The keys that begin with `estimated` of the report's `cost`, and `measured` where products were on one of the targets."""
    asked = all_targets() if targets is None else targets
    found = {target.name: estimate_on(target, kernels, batch, times) for target in asked}
    known = {name: each for name, each in found.items() if isinstance(each, Estimate)}
    measured = {} if times is None else {"measured": mixture(kernels, times, batch).to_json(times)}
    return {
        "estimated_by": f"vitgraph's roofline at batch {batch}; FP32 products in TF32",
        "estimated_ms": {name: _rounded(known[name].ms) if name in known else None for name in found},
        "estimated_mj": {name: _rounded(known[name].mj) if name in known else None for name in found},
        "estimated_bound": {name: known[name].bound if name in known else None for name in found},
        "estimated_why": {name: each for name, each in found.items() if isinstance(each, str)},
        **measured,
    }


def compare_forms(
    kernels: Sequence[Kernel],
    batch: int = 1,
    targets: Sequence[Target] | None = None,
    times: MeasuredTimes | None = None,
) -> dict[str, dict[str, float | None]]:
    """Milliseconds by form and target, were the program in that form; None where a target has no estimate."""
    forms = {name: [_in_form(kernel, *form) for kernel in kernels] for name, form in FORMS.items()}
    return {name: describe_estimates(each, batch, targets, times)["estimated_ms"] for name, each in forms.items()}


def measured_forms(kernels: Sequence[Kernel], batch: int, times: MeasuredTimes) -> dict[str, str]:
    """By form, how many of the products were measured."""
    forms = {name: [_in_form(kernel, *form) for kernel in kernels] for name, form in FORMS.items()}
    return {name: mixture(each, times, batch).counted for name, each in forms.items()}


def _in_form(kernel: Kernel, kind: str, zeros: Zeros) -> Kernel:
    return kernel.in_type(kind, zeros if kernel.role in PRUNED_ROLES else DENSE)


def _rounded(value: float | None) -> float | None:
    """Four digits, which is more than an estimate is good for, and the same bytes everywhere."""
    return None if value is None else float(f"{value:.4g}")
