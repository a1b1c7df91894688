"""What a benchmark tells: a row for each entrant, in JSON and as a table; what was not measured is null, with the reason."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vitgraph.tools.bench_entrants import Entrant
from vitgraph.tools.drawing import table

Times = Sequence[Sequence[float]]
"""Seconds of an entrant's runs: with transfers, and where it has a device without."""

MEASURED = ("median_ms", "p10_ms", "p90_ms", "min_ms", "max_ms", "ratio_to_first", "min_ratio_to_first", "images_per_second")  # fmt: skip
"""The keys of a whole run by the clock, in the order of the table: images come from the processor's memory and answers go there."""
ON_DEVICE = ("device_median_ms", "device_p10_ms", "device_p90_ms", "device_ratio_to_first", "device_images_per_second", "device_memory_mib")  # fmt: skip
"""The keys of a run on images that lie on the device, by its own clock, and of its memory."""


def make_rows(entrants: Sequence[Entrant], times: Mapping[int, Times]) -> list[dict[str, Any]]:
    """A row for each entrant, batch by batch; `times` by the entrant's `id`."""
    rows = list[dict[str, Any]]()
    for size in dict.fromkeys(entrant.batch for entrant in entrants):
        group = [entrant for entrant in entrants if entrant.batch == size]
        first = times.get(id(group[0]))
        rows += [_row(entrant, times.get(id(entrant)), first) for entrant in group]
    return rows


def _row(entrant: Entrant, times: Times | None, first: Times | None) -> dict[str, Any]:
    row: dict[str, Any] = {"model": entrant.model, "backend": entrant.backend, "batch": entrant.batch}
    if times is None:
        return {**row, **dict.fromkeys((*MEASURED, *ON_DEVICE)), "why": entrant.why}
    executed = entrant.runner.execution(entrant.batch)
    measured = _spread(times[0], entrant.batch, None if first is None else first[0])
    why = {"why": "the baseline does not run this batch"} if first is None else {}
    told = {} if executed is None else {"execution": executed.as_json()}
    return {**row, **measured, **_device(entrant, times, first), **why, **told}


def _spread(times: Sequence[float], batch: int, first: Sequence[float] | None) -> dict[str, Any]:
    """Milliseconds of a whole run, by the keys of `MEASURED`."""
    median = statistics.median(times)
    low, high = _tenths(times)
    return {
        "median_ms": round(1000 * median, 4),
        "p10_ms": round(1000 * low, 4),
        "p90_ms": round(1000 * high, 4),
        "min_ms": round(1000 * min(times), 4),
        "max_ms": round(1000 * max(times), 4),
        "ratio_to_first": None if first is None else round(median / statistics.median(first), 4),
        "min_ratio_to_first": None if first is None else round(min(times) / min(first), 4),
        "images_per_second": round(batch / median, 2),
    }


def _device(entrant: Entrant, times: Times, first: Times | None) -> dict[str, Any]:
    """The same on the device, by the keys of `ON_DEVICE`."""
    if len(times) < 2:
        why = f"{entrant.backend} runs on the CPU: nothing is transferred"
        return {**dict.fromkeys(ON_DEVICE), "device_why": why}
    median = statistics.median(times[1])
    low, high = _tenths(times[1])
    there = first is not None and len(first) > 1
    ratio = round(median / statistics.median(first[1]), 4) if first is not None and there else None
    return {
        "device_median_ms": round(1000 * median, 4),
        "device_p10_ms": round(1000 * low, 4),
        "device_p90_ms": round(1000 * high, 4),
        "device_ratio_to_first": ratio,
        "device_images_per_second": round(entrant.batch / median, 2),
        "device_memory_mib": None if entrant.device_bytes is None else round(entrant.device_bytes / 2**20, 1),
        **({} if there else {"device_why": "the baseline does not run this batch on a device"}),
    }


def _tenths(times: Sequence[float]) -> tuple[float, float]:
    """The first and the last decile."""
    if len(times) == 1:
        return times[0], times[0]
    found = statistics.quantiles(times, n=10, method="inclusive")
    return found[0], found[-1]


def drawn_rows(found: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """The table, another for devices where one took part, and what each runtime says that it executed."""
    yield _drawn(found, MEASURED)
    there = [each for each in found if each["device_median_ms"] is not None]
    if there:
        yield "On the device, without transfers:"
        yield _drawn(there, ON_DEVICE)
    executed = {(each["model"], each["backend"]): each["execution"]["summary"] for each in found if "execution" in each}
    yield from (f"{model} in {backend}: {summary}" for (model, backend), summary in executed.items() if summary)
    yield from dict.fromkeys(str(each["why"]) for each in found if "why" in each)


def _drawn(found: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Any:
    columns = ["model", "backend", "batch", *keys]
    rows = [["–" if each[key] is None else str(each[key]) for key in columns] for each in found]
    return table([key.removeprefix("device_").replace("_", " ") for key in columns], rows)
