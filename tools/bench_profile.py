"""`--profile` and `--trace` of a benchmark: which kernels a run consists of, and a picture of one run of each entrant in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.tools.drawing import table

if TYPE_CHECKING:
    from vitgraph.tools.bench_entrants import Entrant


def make_profile(entrants: Sequence[Entrant]) -> list[dict[str, Any]]:
    """The kernels of one run of each, by site where the runtime says it; null with the reason where it says nothing."""
    return [_profile(entrant) for entrant in entrants]


def _profile(entrant: Entrant) -> dict[str, Any]:
    head = {"model": entrant.model, "backend": entrant.backend, "batch": entrant.batch}
    kernels = entrant.runner.kernel_times(entrant.noise)
    if not kernels:
        return {**head, "kernels": None, "why": f"{entrant.backend} does not tell its kernels"}
    whole = sum(each.seconds for each in kernels)
    rows = [
        {
            "site": each.site,
            "kernel": each.name,
            "calls": each.calls,
            "us": round(1e6 * each.seconds, 3),
            "share": round(each.seconds / whole, 4) if whole else None,
        }
        for each in kernels
    ]
    return {**head, "kernels": rows, "us": round(1e6 * whole, 3)}


def drawn_profile(found: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """A table for each entrant."""
    for each in found:
        name = f"{each['model']} in {each['backend']}, batch {each['batch']}"
        if each["kernels"] is None:
            yield f"{name}: {each['why']}"
            continue
        yield f"{name}: {each['us']:g} us in {len(each['kernels'])} kernels"
        rows = [
            [row["site"] or "–", row["kernel"], str(row["calls"]), f"{row['us']:g}", _percent(row["share"])]
            for row in each["kernels"]
        ]
        yield table(["site", "kernel", "calls", "us", "share"], rows)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def write_trace(entrants: Sequence[Entrant], file: Path) -> None:
    """One run of each under torch's profiler, as a Chrome trace (chrome://tracing, ui.perfetto.dev); whole or not at all."""
    import torch

    from vitgraph.outputs.scratch import ScratchFolder
    from vitgraph.outputs.whole_file import write_whole
    from vitgraph.reading import TRACE, read_bytes

    profiler: Any = torch.profiler
    with profiler.profile() as found:
        for entrant in entrants:
            with profiler.record_function(f"{entrant.model} in {entrant.backend}, batch {entrant.batch}"):
                entrant.runner.run(entrant.noise)
    with ScratchFolder() as folder:
        made = folder / "trace.json"
        found.export_chrome_trace(str(made))
        write_whole(file, read_bytes(made, TRACE), replace=False)
