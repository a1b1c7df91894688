"""`vitgraph bench`: latency on this CPU of models and backends in turns, so that all see the same machine."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.domains import BatchSize, Repeats, RepeatsOrNone, Threads, hold, plain_number, shortened
from vitgraph.errors import InputError
from vitgraph.progress import silent
from vitgraph.tools.command import Answer, command
from vitgraph.tools.drawing import group, table
from vitgraph.tools.progress import show_progress
from vitgraph.tools.runnable import BACKEND_HELP, load_runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vitgraph.progress import Progress
    from vitgraph.runtime.backend import Backend, Runner

NOTES = {"ort": "ort computes Q/DQ in floating point: it orders models, it does not foretell a GPU's latency."}


@dataclass(frozen=True)
class Entrant:
    """A model in a backend at one batch size; `once` runs it, unless `why` says why it takes no part."""

    model: str
    backend: str
    batch: int
    runner: Runner
    once: Callable[[], object]
    why: str | None = None


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "bench")(bench)


def bench(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="OUT|MODEL.onnx|PROGRAM ...", help="What to run; the first is the baseline."),
    ],
    backend: Annotated[
        str, typer.Option(metavar="NAME[,NAME]", help=f"What runs each; the first is the baseline. {BACKEND_HELP}")
    ] = "ort",
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N]", help="Images in a batch; unless given, the model's own, or 1.", show_default=False
        ),
    ] = None,
    rounds: Annotated[Repeats, typer.Option(help="How often each is timed; they take turns.")] = 20,
    warm_up: Annotated[RepeatsOrNone, typer.Option(help="Runs of each before the clock starts.")] = 3,
    threads: Annotated[Threads, typer.Option(help="Threads of one run; 0 leaves it to the runtime.")] = 0,
) -> Answer:
    """Time models and backends side by side: medians of interleaved rounds, and ratios to the first of the same batch."""
    from vitgraph.backends import find_backend

    names, sizes = backend.split(","), _sizes(batch)
    chosen = [find_backend(name) for name in names]
    with ExitStack() as stack:
        entrants = [each for path in models for one in chosen for each in _enter(path, one, sizes, threads, stack)]
        ready = [entrant for entrant in entrants if entrant.why is None]
        if not ready:
            raise InputError(f"--batch {batch}: {'; '.join(dict.fromkeys(str(each.why) for each in entrants))}")
        with show_progress() as progress:
            times = run_rounds([entrant.once for entrant in ready], rounds, warm_up, progress)
        found = _results(entrants, dict(zip(map(id, ready), times, strict=True)))
    data = {
        "measured_on": "this CPU",
        "rounds": rounds,
        "warm_up": warm_up,
        "threads": threads,
        "baseline": "ratios are to the first model in the first backend at the same batch",
        "note": " ".join(NOTES[name] for name in names if name in NOTES),
    }
    return Answer(data | {"results": found}, group(*_told(found, data)))


def _sizes(batch: str | None) -> list[int] | None:
    if batch is None:
        return None
    sizes = [plain_number(part) for part in batch.split(",")]
    if not all(sizes):
        raise InputError(f"--batch {shortened(batch)}: write sizes with commas between, such as 1,8")
    return list(dict.fromkeys(hold("--batch", BatchSize, size) for size in sizes))


def _enter(path: Path, backend: Backend, sizes: list[int] | None, threads: int, stack: ExitStack) -> Iterator[Entrant]:
    """Load a model into a backend; one entrant for each batch size."""
    runner = stack.enter_context(load_runner(path, backend, threads))
    own = runner.batch_size
    for size in sizes or [own or 1]:
        yield Entrant(
            str(path),
            backend.name,
            size,
            runner,
            _work(runner, size),
            None if own in (None, size) else _fixed(path, own, size),
        )


def _fixed(path: Path, own: int | None, size: int) -> str:
    return f"{path} was made for batches of {own}, not {size}; `vitgraph compile --batch 1:{size}:{size}` leaves the size open"


def _work(runner: Runner, size: int) -> Callable[[], object]:
    """One run on noise of the shape that the model takes."""
    import torch

    shape = [size, *(1 if each is None else each for each in runner.input_shape[1:])]
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(runner.input_dtype)
    return lambda: runner.run(noise)


def run_rounds(
    works: Sequence[Callable[[], object]],
    rounds: int,
    warm_up: int,
    progress: Progress = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Seconds of every run of each work: each round runs all of them, and every other round in the opposite order."""
    for work in works:
        for _ in range(warm_up):
            work()
    times = [list[float]() for _ in works]
    order = list(range(len(works)))
    for turn in range(rounds):
        for index in order if turn % 2 == 0 else reversed(order):
            start = clock()
            works[index]()
            times[index].append(clock() - start)
        progress("rounds", turn + 1, rounds)
    return times


def _results(entrants: list[Entrant], times: dict[int, list[float]]) -> list[dict[str, Any]]:
    """A row for each entrant, batch by batch; what was not measured is null, with the reason."""
    rows = list[dict[str, Any]]()
    for size in dict.fromkeys(entrant.batch for entrant in entrants):
        group = [entrant for entrant in entrants if entrant.batch == size]
        first = times.get(id(group[0]))
        rows += [_row(entrant, times.get(id(entrant)), first) for entrant in group]
    return rows


def _row(entrant: Entrant, times: list[float] | None, first: list[float] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"model": entrant.model, "backend": entrant.backend, "batch": entrant.batch}
    if times is None:
        return {**row, **dict.fromkeys(MEASURED), "why": entrant.why}
    median, executed = statistics.median(times), entrant.runner.execution(entrant.batch)
    measured = {
        "median_ms": round(1000 * median, 4),
        "min_ms": round(1000 * min(times), 4),
        "max_ms": round(1000 * max(times), 4),
        "ratio_to_first": None if first is None else round(median / statistics.median(first), 4),
        "min_ratio_to_first": None if first is None else round(min(times) / min(first), 4),
        "images_per_second": round(entrant.batch / median, 2),
    }
    why = {"why": "the baseline does not run this batch"} if first is None else {}
    return {**row, **measured, **why, **({} if executed is None else {"execution": executed.as_json()})}


MEASURED = ("median_ms", "min_ms", "max_ms", "ratio_to_first", "min_ratio_to_first", "images_per_second")
"""The keys of a measurement, in the order of the table."""


def _told(found: list[dict[str, Any]], data: dict[str, Any]) -> Iterator[Any]:
    """The table, the notes, and what each runtime says that it executed."""
    columns = ["model", "backend", "batch", *MEASURED]
    rows = [["–" if each[key] is None else str(each[key]) for key in columns] for each in found]
    yield table([key.replace("_", " ") for key in columns], rows)
    yield f"{data['baseline']}. {data['note']}".rstrip()
    executed = {(each["model"], each["backend"]): each["execution"]["summary"] for each in found if "execution" in each}
    yield from (f"{model} in {backend}: {summary}" for (model, backend), summary in executed.items())
    yield from dict.fromkeys(str(each["why"]) for each in found if "why" in each)
