"""Kernels with their times, as torch's profiler saw them, and the steps of a program in which they ran.

A kernel belongs to the step whose mark was open on the CPU while it ran: whoever marks steps waits for the device at the end of
each. The profiler's own links from kernels to calls know nothing of kernels that Triton launches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vitgraph.runtime.accelerator import KernelTime

MARK = "vitgraph step "
"""With what the names of marks begin."""


@dataclass(frozen=True)
class Span:
    """What the profiler saw: a mark or call on the CPU, or a kernel on the device; microseconds of one clock."""

    name: str
    start: float
    end: float
    on_device: bool


def profiled(work: Callable[[], object]) -> list[Span]:
    """Do the work under torch's profiler."""
    profiler: Any = torch.profiler
    with profiler.profile() as found:  # of all that torch can see here, the device among it
        work()
    library: Any = torch
    cpu = library.autograd.DeviceType.CPU
    return [
        Span(str(each.name), each.time_range.start, each.time_range.end, each.device_type != cpu)
        for each in found.events()
    ]


def marked(label: str) -> Any:
    """A mark for the block."""
    profiler: Any = torch.profiler
    return profiler.record_function(f"{MARK}{label}")


def by_kernel(spans: Iterable[Span]) -> list[KernelTime]:
    """The kernels, those of one name together, in the order in which they first ran."""
    return _summed(("", span) for span in _kernels(spans))


def by_step(spans: Sequence[Span], sites: Mapping[str, str]) -> list[KernelTime]:
    """The same, those of one name in one step together. `sites` has the module path of each mark's label."""
    marks = sorted(
        (span for span in spans if span.name.startswith(MARK) and not span.on_device), key=lambda span: span.start
    )
    starts = [mark.start for mark in marks]
    found = list[tuple[str, Span]]()
    for kernel in _kernels(spans):
        at = bisect_right(starts, kernel.start) - 1
        inside = at >= 0 and kernel.start <= marks[at].end
        found.append((marks[at].name.removeprefix(MARK) if inside else "", kernel))
    return _summed(found, sites)


def _kernels(spans: Iterable[Span]) -> list[Span]:
    """Without the marks, which the profiler shows on the device too."""
    found = [span for span in spans if span.on_device and not span.name.startswith(MARK)]
    return sorted(found, key=lambda span: span.start)


def _summed(found: Iterable[tuple[str, Span]], sites: Mapping[str, str] | None = None) -> list[KernelTime]:
    times, counts = dict[tuple[str, str], float](), dict[tuple[str, str], int]()
    for label, span in found:
        key = (label, span.name)
        times[key] = times.get(key, 0.0) + (span.end - span.start) / 1e6
        counts[key] = counts.get(key, 0) + 1
    return [
        KernelTime(name, spent, (sites or {}).get(label, ""), counts[label, name])
        for (label, name), spent in times.items()
    ]
