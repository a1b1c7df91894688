"""`vitgraph bench`: latency of models and backends in turns, so that all see the same machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.domains import Repeats, RepeatsOrNone, Threads
from vitgraph.errors import InputError
from vitgraph.tools.batch_sizes import read_batch_sizes
from vitgraph.tools.bench_entrants import Entrant, enter
from vitgraph.tools.bench_profile import drawn_profile, make_profile, write_trace
from vitgraph.tools.bench_record import check_measurable, record
from vitgraph.tools.bench_rounds import take_turns
from vitgraph.tools.bench_rows import Times, drawn_rows, make_rows
from vitgraph.tools.command import Answer, command
from vitgraph.tools.drawing import group
from vitgraph.tools.progress import show_progress
from vitgraph.tools.runnable import BACKEND_HELP

if TYPE_CHECKING:
    from vitgraph.progress import Progress

NOTES = {
    "ort": "ort computes Q/DQ in floating point: it orders models, it does not foretell a GPU's latency.",
    "torch-compile": "torch-compile runs the model's layers in FP16 without quantization and masks: time it, not its answers.",
}


@dataclass(frozen=True)
class BenchOutput:
    """What else a benchmark leaves."""

    profile: Annotated[bool, typer.Option("--profile", help="Tell the kernels of one run, by site, on a device.")] = (
        False
    )
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one run of each as a Chrome trace.", show_default=False),
    ] = None
    record: Annotated[
        bool, typer.Option("--record", help="Put what a GPU took into the report of each OUT, as its latency.")
    ] = False


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "bench")(bench)


def bench(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="OUT|MODEL.onnx|PROGRAM ...", help="What to run; the first is the baseline."),
    ],
    output: BenchOutput,
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

    names, sizes = backend.split(","), None if batch is None else read_batch_sizes(batch)
    chosen = [find_backend(name) for name in names]
    _check_output(models, output)
    with ExitStack() as stack:
        entrants = enter(models, chosen, sizes, threads, stack)
        ready = [entrant for entrant in entrants if entrant.why is None]
        if not ready:
            raise InputError(f"--batch {batch}: {'; '.join(dict.fromkeys(str(each.why) for each in entrants))}")
        if output.record:
            check_measurable(models, entrants)
        with show_progress() as progress:
            times = _time(ready, rounds, warm_up, progress)
        data = {
            **_machine(ready),
            "rounds": rounds,
            "warm_up": warm_up,
            "threads": threads,
            "baseline": "ratios are to the first model in the first backend at the same batch",
            "note": " ".join(NOTES[one.name] for one in chosen if one.name in NOTES),
            **_results(entrants, ready, times, output),
        }
    if output.record:
        data |= {"recorded": record(models, data)}
    return Answer(data, group(*_told(data)), *_judge(ready))


def _check_output(models: Sequence[Path], output: BenchOutput) -> None:
    """Refuse what can't be written before anything is loaded."""
    if output.trace is not None:
        from vitgraph.outputs.destination import check_file

        check_file(output.trace, force=False)
    if output.record:
        from vitgraph.compile.recorded_latency import check_recordable

        check_recordable(models)


def _time(ready: Sequence[Entrant], rounds: int, warm_up: int, progress: Progress) -> dict[int, Times]:
    """Seconds of every run by the entrant's `id`, with transfers and where there is a device without; all take turns."""
    watches = [(entrant, watch) for entrant in ready for watch in entrant.watches]
    found = take_turns([watch for _, watch in watches], rounds, warm_up, progress)
    times: dict[int, Times] = {}
    for (entrant, _), seconds in zip(watches, found, strict=True):
        times[id(entrant)] = [*times.get(id(entrant), []), seconds]
    return times


def _machine(ready: Sequence[Entrant]) -> dict[str, Any]:
    """What was measured on."""
    card = next((each.runner.accelerator for each in ready if each.runner.accelerator is not None), None)
    if card is None:
        return {"measured_on": "this CPU", "card": None, "card_why": "no backend of this run uses a GPU"}
    facts = card.facts()
    mixed = any(each.runner.accelerator is None for each in ready)
    return {"measured_on": f"{facts.name}{' and this CPU' if mixed else ''}", "card": facts.as_json()}


def _results(
    entrants: Sequence[Entrant], ready: Sequence[Entrant], times: dict[int, Times], output: BenchOutput
) -> dict[str, Any]:
    found: dict[str, Any] = {"results": make_rows(entrants, times)}
    if output.profile:
        found["profile"] = make_profile(ready)
    if output.trace is not None:
        write_trace(ready, output.trace)
        found["trace"] = str(output.trace)
    return found


def _told(data: dict[str, Any]) -> Iterator[Any]:
    """The tables and the notes."""
    rows, *others = drawn_rows(data["results"])
    yield rows
    card = data["card"]
    if card is not None:
        yield f"{card['name']}, driver {card['driver']}, CUDA {card['cuda']}, torch {card['torch']}."
    yield f"{data['baseline']}. {data['note']}".rstrip()
    yield from others
    yield from drawn_profile(data.get("profile", ()))
    if "trace" in data:
        yield f"trace: {data['trace']}"
    yield from (f"latency of {out}: recorded in its report" for out in data.get("recorded", ()))


def _judge(ready: Sequence[Entrant]) -> tuple[int, str]:
    """Exit status 1 where what was loaded is not what was planned."""
    broken = {each.model: each.runner.violations for each in ready if each.runner.violations}
    lines = [f"  {model}: {violation}" for model, found in broken.items() for violation in found]
    if not lines:
        return 0, ""
    return 1, "\n".join([f"what was loaded is not what was planned at {len(lines)} site(s)", *lines])
