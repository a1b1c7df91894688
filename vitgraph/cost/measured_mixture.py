"""A program's time on a device whose products were measured: those that were, by their rows, and the cost model's for all else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitgraph.cost.kernel import Kernel, total
from vitgraph.cost.measured_times import MeasuredTimes, ProductTime, form_of
from vitgraph.cost.roofline import Estimate
from vitgraph.cost.workload import DENSE, Gemm


@dataclass(frozen=True)
class Mixture:
    """Times of a program's kernels for a batch."""

    total: Estimate
    """Without energy: it follows from rates, and these times do not."""
    products: int
    """With weights."""
    measured: int
    """How many of them have a row for their size and form."""
    measured_ms: float

    @property
    def counted(self) -> str:
        """`48 of 50`."""
        return f"{self.measured} of {self.products}"

    def to_json(self, times: MeasuredTimes) -> dict[str, Any]:
        """The report's key `measured`."""
        return {
            "target": times.line.target.name,
            "card": times.measured.device.card,
            "products": self.products,
            "measured": self.measured,
            "measured_ms": float(f"{self.measured_ms:.4g}"),
        }


def mixture(kernels: Sequence[Kernel], times: MeasuredTimes, batch: int) -> Mixture:
    """Every kernel as a builder makes it that times both: dense where zeros buy nothing."""
    parts, measured, spent, products = list[Estimate](), 0, 0.0, 0
    for kernel in kernels:
        estimate, row = kernel.built(times.line, batch), _fastest(kernel, times, batch)
        products += isinstance(kernel.work, Gemm) and kernel.weights > 0
        if row is not None:
            estimate, measured, spent = replace(estimate, ms=row.us / 1e3), measured + 1, spent + row.us / 1e3
        parts.append(estimate)
    return Mixture(replace(total(parts), mj=None), products, measured, spent)


def _fastest(kernel: Kernel, times: MeasuredTimes, batch: int) -> ProductTime | None:
    """The faster of its product with and without its zeros; None unless its own form was measured."""
    skipped = times.line.usable(kernel.kind, kernel.zeros)
    own, dense = (_measured(kernel, times, batch, zeros) for zeros in (skipped, DENSE))
    if own is None:
        return None
    return min((own, dense), key=lambda each: each.us) if dense is not None else own


def _measured(kernel: Kernel, times: MeasuredTimes, batch: int, zeros: Any) -> ProductTime | None:
    form = form_of(kernel.kind, zeros)
    found = None if form is None else times.of(kernel, batch, form)
    return found if found is not None and found.source == "measured" else None
