"""Time every linear of a plan in every format on a device: sizes one after the other, formats of a size in turns.

What the device does is handed in, so that all of this runs, and is tested, on a machine without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vitgraph.backends.cuda.interleaved import Clock, Spread, Work, interleave
from vitgraph.backends.cuda.linear_sizes import LinearSize
from vitgraph.backends.cuda.timed_products import KERNELS, TUNED, Unavailable
from vitgraph.cost.measured import Form, Measured, MeasuredDevice, MeasuredMethod, MeasuredProduct, MeasuredTime
from vitgraph.progress import Progress, silent

LONGEST_WHY = 160


@dataclass(frozen=True)
class Prepared:
    """A product that is ready: `work` runs it `products` times."""

    work: Work
    products: int


class TunedDevice(Clock, Protocol):
    """What products are timed on."""

    def facts(self) -> MeasuredDevice:
        """Card and versions."""
        ...

    def method(self, rounds: int) -> MeasuredMethod:
        """How it is timed."""
        ...

    def prepare(self, size: LinearSize, form: Form) -> Prepared:
        """A product that has run once. Raises `Unavailable` where the device has none, and what torch raises, out of memory too."""
        ...

    def release(self) -> None:
        """Let go of the memory of all that was prepared."""
        ...


def tune(sizes: Sequence[LinearSize], device: TunedDevice, rounds: int, progress: Progress = silent) -> Measured:
    """The times of every size; what can't be timed is null with the reason, and the rest goes on."""
    products = list[MeasuredProduct]()
    for at, size in enumerate(sizes):
        times = _times(size, device, rounds)
        products.append(MeasuredProduct(rows=size.rows, n=size.n, k=size.k, used=list(size.used), times=times))
        progress("tune: sizes", at + 1, len(sizes))
    return Measured(device=device.facts(), method=device.method(rounds), products=products)


def _times(size: LinearSize, device: TunedDevice, rounds: int) -> list[MeasuredTime]:
    ready, why = dict[Form, Prepared](), dict[Form, str]()
    for form in TUNED:
        try:
            ready[form] = device.prepare(size, form)
        except (Unavailable, RuntimeError, ValueError) as error:  # torch's OutOfMemoryError is a RuntimeError
            why[form] = _reason(error)
    try:
        spreads = interleave({form: each.work for form, each in ready.items()}, device, rounds)
    except RuntimeError as error:
        why |= dict.fromkeys(ready, _reason(error))
        spreads = {}
    ready_products = {form: each.products for form, each in ready.items()}
    ready.clear()
    device.release()
    return [_row(form, spreads.get(form), ready_products.get(form, 1), why.get(form)) for form in TUNED]


def _row(form: Form, spread: Spread | None, products: int, why: str | None) -> MeasuredTime:
    if spread is None:
        return MeasuredTime(form=form, us=None, kernel=KERNELS[form], why=why or "was not timed")
    us = [_microseconds(each, products) for each in (spread.low, spread.median, spread.high)]
    return MeasuredTime(form=form, us=us[1], quartiles=(us[0], us[2]), kernel=KERNELS[form])


def _microseconds(milliseconds: float, products: int) -> float:
    return float(f"{1e3 * milliseconds / products:.5g}")


def _reason(error: Exception) -> str:
    """One short line."""
    if "out of memory" in str(error).lower():
        return "the GPU's memory does not hold it"
    line = " ".join(str(error).split())
    clean = "".join(each for each in line if each.isprintable())
    return f"{clean[:LONGEST_WHY]}" or type(error).__name__
