"""`vitgraph bench`: latency in ONNX Runtime on this CPU, several models in turns, so that all see the same machine."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.errors import InputError
from vitgraph.tools.command import Answer, command, table
from vitgraph.tools.progress import show_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from vitgraph.tools.progress import Progress

NOTE = (
    "ONNX Runtime computes Q/DQ in floating point on a CPU: this orders models, it does not foretell a GPU's latency."
)


@dataclass(frozen=True)
class Entrant:
    """A model that takes part."""

    label: str
    batch: int
    once: Callable[[], object]


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "bench")(bench)


def bench(
    models: Annotated[
        list[Path], typer.Argument(metavar="OUT|MODEL.onnx ...", help="What to run; the first is the measure.")
    ],
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed; the models take turns.")] = 20,
    warm_up: Annotated[int, typer.Option(min=0, help="Runs of each before the clock starts.")] = 3,
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch, where the model leaves it open.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="Threads of one run; 0 leaves it to ONNX Runtime.")] = 0,
) -> Answer:
    """Time models side by side in ONNX Runtime: medians of interleaved rounds, and ratios to the first."""
    entrants = [_enter(path, batch, threads) for path in models]
    with show_progress() as progress:
        times = run_rounds([entrant.once for entrant in entrants], rounds, warm_up, progress)
    medians = [statistics.median(each) for each in times]
    found = [
        {
            "model": entrant.label,
            "batch": entrant.batch,
            "median_ms": round(1000 * median, 4),
            "min_ms": round(1000 * min(each), 4),
            "max_ms": round(1000 * max(each), 4),
            "ratio_to_first": round(median / medians[0], 4),
            "images_per_second": round(entrant.batch / median, 2),
        }
        for entrant, each, median in zip(entrants, times, medians, strict=True)
    ]
    columns = ["model", "batch", "median_ms", "min_ms", "max_ms", "ratio_to_first", "images_per_second"]
    rows = [[str(each[column]) for column in columns] for each in found]
    data = {"measured_on": "onnxruntime CPU", "rounds": rounds, "warm_up": warm_up, "threads": threads, "note": NOTE}
    return Answer(data | {"results": found}, table([column.replace("_", " ") for column in columns], rows, title=NOTE))


def run_rounds(
    works: list[Callable[[], object]], rounds: int, warm_up: int, progress: Progress = lambda what, done, total: None
) -> list[list[float]]:
    """Seconds of every run of each work: each round runs all of them, and every other round in the opposite order."""
    for work in works:
        for _ in range(warm_up):
            work()
    times = [list[float]() for _ in works]
    order = list(range(len(works)))
    for turn in range(rounds):
        for index in order if turn % 2 == 0 else reversed(order):
            start = time.perf_counter()
            works[index]()
            times[index].append(time.perf_counter() - start)
        progress("rounds", turn + 1, rounds)
    return times


def _enter(path: Path, batch: int, threads: int) -> Entrant:
    """Load a model, and noise of the shape it takes."""
    import torch

    from vitgraph.backends.ort import Ort

    file = path / "model.onnx" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{path}: is no ONNX file and no folder with a model.onnx; `vitgraph compile` writes one")
    runner = Ort(threads=threads).load(file)
    wanted: list[Any] = list(runner.session.get_inputs()[0].shape)
    sizes = [size if isinstance(size, int) else batch for size in wanted]
    kind = torch.float16 if "float16" in runner.session.get_inputs()[0].type else torch.float32
    noise = torch.randn(sizes, generator=torch.Generator().manual_seed(0)).to(kind)
    return Entrant(str(path), sizes[0], lambda: runner.run(noise))
