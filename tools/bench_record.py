"""`--record` of a benchmark: what was measured on a GPU goes into the reports of the compilations that ran there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.errors import InputError

if TYPE_CHECKING:
    from vitgraph.tools.bench_entrants import Entrant


def check_measurable(models: Sequence[Path], entrants: Sequence[Entrant]) -> None:
    """`InputError` where a model runs on no GPU: a report's latency is none of a CPU."""
    there = {each.model for each in entrants if each.runner.accelerator is not None}
    missing = [str(path) for path in models if str(path) not in there]
    if missing:
        backends = ", ".join(dict.fromkeys(each.backend for each in entrants))
        raise InputError(
            f"--record: {', '.join(missing)} is timed on a CPU alone (by {backends}); a report's latency is that of a GPU: take a "
            "backend that runs on one, or leave out --record"
        )


def record(models: Sequence[Path], data: Mapping[str, Any]) -> list[str]:
    """Write each compilation's rows into its report; which of them were written."""
    from vitgraph.compile.recorded_latency import record_latency

    written = list[str]()
    for path in dict.fromkeys(models):
        rows = [
            _row(each)
            for each in data["results"]
            if each["model"] == str(path) and each["device_median_ms"] is not None
        ]
        if rows:
            record_latency(path, _latency(rows, data))
            written.append(str(path))
    return written


def _latency(rows: list[dict[str, Any]], data: Mapping[str, Any]) -> dict[str, Any]:
    """The report's key `latency`: card, versions, how it was measured, and a row for each backend and batch."""
    return {
        "measured_on": data["card"]["name"],
        "card": data["card"],
        "versions": {"vitgraph": version("vitgraph"), "torch": data["card"]["torch"]},
        "rounds": data["rounds"],
        "warm_up": data["warm_up"],
        "results": rows,
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without what compares it with other models of that run."""
    left_out = ("model", "why", "device_why")
    kept = {key: value for key, value in row.items() if key not in left_out and "ratio" not in key}
    execution = kept.pop("execution", None)
    return kept if execution is None else {**kept, "settings": execution["settings"], "executed": execution["summary"]}
