"""Which form of a linear is the fastest on a device that was measured, and what the others would cost there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitgraph.cost.kernel import Kernel
from vitgraph.cost.measured import Form
from vitgraph.cost.measured_times import SPREAD, MeasuredTimes, ProductTime, form_of
from vitgraph.cost.workload import DENSE, Zeros
from vitgraph.ir.packing import Packing


@dataclass(frozen=True)
class FormChoice:
    """The forms that a site may have: as it is compiled, dense in the same type, and in FP16."""

    times: Mapping[Form, ProductTime]
    inputs: Mapping[Form, float]
    """Microseconds that writing its input takes whoever writes it."""
    compiled: Form

    @property
    def sparse(self) -> Form | None:
        """The form with its mask; None where it has none that is measured."""
        return self.compiled if self.compiled.endswith("2:4") else None

    @property
    def dense(self) -> Form:
        """The fastest without a mask."""
        return min((form for form in self.times if not form.endswith("2:4")), key=self.us)

    @property
    def int8(self) -> Form | None:
        """The fastest in INT8; None where it has none."""
        return min((form for form in self.times if form.startswith("int8")), key=self.us, default=None)

    def us(self, form: Form) -> float:
        """Microseconds of the site in this form: input, product, passes after it."""
        return self.inputs[form] + self.times[form].us

    def gains(self, form: Form, other: Form) -> bool:
        """Whether a form is faster than another by more than runs differ."""
        return self.us(form) < (1 - SPREAD) * self.us(other)


def choose(kernel: Kernel, times: MeasuredTimes, batch: int) -> FormChoice | None:
    """The forms of one kernel; None for what is no linear in FP16 or INT8. Zeros of another pattern than 2:4 count as values."""
    zeros = Zeros(kernel.zeros.packing) if kernel.zeros.packing == Packing(2, 4) else DENSE
    compiled = form_of(kernel.kind, zeros)
    if compiled is None or kernel.kind not in ("fp16", "int8"):
        return None
    dense = form_of(kernel.kind, DENSE)
    forms: tuple[Form | None, ...] = (compiled, dense, "fp16")
    found = dict[Form, ProductTime]()
    for form in forms:
        time = None if form is None else times.of(kernel, batch, form)
        if time is not None:
            found[time.form] = time
    if compiled not in found or not any(not form.endswith("2:4") for form in found):
        return None
    return FormChoice(found, {form: times.input_us(kernel, batch, form) for form in found}, compiled)


def told(choice: FormChoice, times: MeasuredTimes, batch: int) -> str:
    """One clause: the time of each form's product, where it is from, and on which card."""
    products = ", ".join(
        f"{form} {each.product_us:.4g} us {each.source}"
        + (f" and {each.after_us:.3g} us of passes estimated" if each.after_us else "")
        for form, each in choice.times.items()
    )
    return f"on {times.measured.device.card} at batch {batch}: {products}"
