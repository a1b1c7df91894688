"""A device for tuning that is none: products are names, and each takes as long as a table says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from vitgraph.backends.cuda.interleaved import Work
from vitgraph.backends.cuda.linear_sizes import LinearSize
from vitgraph.backends.cuda.timed_products import Unavailable
from vitgraph.backends.cuda.tuning import Prepared
from vitgraph.cost.measured import Form, MeasuredDevice, MeasuredMethod

US: Mapping[Form, float] = {"fp16": 40.0, "int8": 30.0, "int8 2:4": 20.0, "fp8": 10.0}
PRODUCTS = 4


class OutOfMemory(torch.OutOfMemoryError):
    """As torch tells it."""

    def __init__(self) -> None:
        super().__init__("CUDA out of memory. Tried to allocate 20.00 GiB.\nSee the documentation.")


@dataclass
class PretendedTuner:
    """Counts what it is asked for."""

    us: Mapping[Form, float] = field(default_factory=lambda: dict(US))
    fails: Mapping[tuple[Form, int], Callable[[], BaseException]] = field(
        default_factory=dict[tuple[Form, int], Callable[[], BaseException]]
    )
    """By form and rows, what preparing it raises."""
    asked: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """Each timing: which form, and how often it was run."""
    released: int = 0
    _forms: dict[Work, Form] = field(default_factory=dict[Work, Form])

    def facts(self) -> MeasuredDevice:
        return MeasuredDevice(
            card="Pretended H200", compute_capability="9.0", driver="1", cuda="13.0", torch="2", triton="3"
        )

    def method(self, rounds: int) -> MeasuredMethod:
        return MeasuredMethod(clock="a table", cache="rotated", rounds=rounds)

    def prepare(self, size: LinearSize, form: Form) -> Prepared:
        fault = self.fails.get((form, size.rows))
        if fault is not None:
            raise fault()
        if form == "fp8" and size.n % 16:
            raise Unavailable(f"{size.n} outputs are no multiple of 16")
        work = lambda: form
        self._forms[work] = form
        return Prepared(work, PRODUCTS)

    def milliseconds(self, work: Work, times: int) -> float:
        form = self._forms[work]
        self.asked.append((form, times))
        return PRODUCTS * self.us[form] / 1e3

    def release(self) -> None:
        self.released += 1
        self._forms.clear()
