"""Times of linears on a device that was measured: measured where there is a row, else the cost model's, corrected by the nearest row.

A product that was measured as a bare one leaves passes over memory to do (dequantization, bias); these are the cost model's, as
is what it costs whoever writes the input that it is twice as large in FP16. So a choice between forms is

    input's way to memory  +  product (measured, corrected or estimated)  +  passes after it

The correction is the measured time over the cost model's at the nearest size in the same form, by the distance of the
logarithms of rows, N and K.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from vitgraph.cost.kernel import Kernel, linear
from vitgraph.cost.measured import Form, Measured, MeasuredTime, padded_rows
from vitgraph.cost.roofline import Roofline
from vitgraph.cost.workload import BITS, DENSE, Gemm, Zeros, two_of_four
from vitgraph.ir.packing import Packing

Source = Literal["measured", "corrected", "estimated"]
FORMS: tuple[Form, ...] = get_args(Form)
SPREAD = 0.05
"""Times nearer than this are taken for equal: single runs on one card differ by as much."""
_OUTPUT_BYTES = {"fp16": 2, "int32": 4}
_FP16_BYTES = 2
Size = tuple[int, int, int]
"""Rows (padded), N and K."""


@dataclass(frozen=True)
class ProductTime:
    """Microseconds of one linear in one form, and where its product's are from."""

    form: Form
    product_us: float
    after_us: float
    """Passes that its kernel leaves to be done, by the cost model."""
    source: Source

    @property
    def us(self) -> float:
        """Product and passes."""
        return self.product_us + self.after_us


@dataclass(frozen=True)
class MeasuredTimes:
    """The times of linears on one device."""

    line: Roofline
    measured: Measured

    def of(self, kernel: Kernel, batch: int, form: Form) -> ProductTime | None:
        """One product with a weight for a batch; None for any other kernel, and for a form that the device has no units for."""
        if not isinstance(kernel.work, Gemm) or not kernel.weights or kernel.work.count != 1:
            return None
        kind, zeros = parts_of(form)
        if self.line.runs_in(kind) != kind or (zeros != DENSE and self.line.usable(kind, zeros) == DENSE):
            return None
        return self._of_size((kernel.work.m * batch, kernel.work.n, kernel.work.k), form)

    def input_us(self, kernel: Kernel, batch: int, form: Form) -> float:
        """What it takes to write the input in the form's type."""
        assert isinstance(kernel.work, Gemm)
        return self._memory(kernel.work.m * batch * kernel.work.k * BITS[parts_of(form)[0]] / 8)

    def _of_size(self, size: Size, form: Form) -> ProductTime:
        exact, nearest = self._row(size, form), self._nearest(size, form)
        if exact is not None and exact.us is not None:
            return ProductTime(form, exact.us, self._after(size, exact), "measured")
        estimated = self._estimated(size, form)
        if nearest is None:
            return ProductTime(form, estimated, self._after(size, None, form), "estimated")
        place, row = nearest
        assert row.us is not None
        return ProductTime(form, estimated * row.us / self._estimated(place, form), self._after(size, row), "corrected")

    def _row(self, size: Size, form: Form) -> MeasuredTime | None:
        return self._rows.get(form, {}).get((padded_rows(size[0]), *size[1:]))

    def _nearest(self, size: Size, form: Form) -> tuple[Size, MeasuredTime] | None:
        rows = self._rows.get(form, {})
        return min(rows.items(), key=lambda each: distance(each[0], size), default=None)

    @cached_property
    def _rows(self) -> Mapping[Form, Mapping[Size, MeasuredTime]]:
        """By form and size, what has a time."""
        found: dict[Form, dict[Size, MeasuredTime]] = {form: {} for form in FORMS}
        for product in self.measured.products:
            for each in product.times:
                if each.us is not None:
                    found[each.form][product.padded] = each
        return found

    def _estimated(self, size: Size, form: Form) -> float:
        return 1e3 * linear("", *size, *parts_of(form)).estimate(self.line).ms

    def _after(self, size: Size, row: MeasuredTime | None, form: Form = "fp16") -> float:
        """A pass over the result where the kernel does not give the linear's; without a row, where the form is known to need it."""
        bare = form == "int8 2:4" if row is None else row.covers == "product"
        if not bare:
            return 0.0
        read = _FP16_BYTES if row is None else _OUTPUT_BYTES[row.output]
        return 1e3 * self.line.move(size[0] * size[1] * (read + _FP16_BYTES)).ms

    def _memory(self, moved: float) -> float:
        return moved / (self.line.bandwidth * 1e3 * self.line.shares.bandwidth)


def parts_of(form: Form) -> tuple[str, Zeros]:
    """The type and the zeros that a form stands for."""
    kind, _, pattern = form.partition(" ")
    return kind, two_of_four(kind) if pattern else DENSE


def form_of(kind: str, zeros: Zeros) -> Form | None:
    """The form of a product in this type with these zeros; None for one that is not measured."""
    pattern = zeros.packing == Packing(2, 4)
    if zeros != DENSE and not pattern:
        return None
    name = f"{kind} 2:4" if pattern else kind
    return next((form for form in FORMS if form == name), None)


def distance(one: Size, other: Size) -> float:
    """How far apart two sizes are, by the logarithms of rows, N and K."""
    return math.dist([math.log(each) for each in one], [math.log(each) for each in other])
