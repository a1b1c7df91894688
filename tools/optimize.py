"""`vitgraph opt`: run passes on a model or a program and watch them do it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.domains import ImageCount, Natural, hold
from vitgraph.errors import InputError
from vitgraph.logs import only_errors
from vitgraph.outputs.destination import check_file
from vitgraph.tools.command import Answer, command
from vitgraph.tools.model_options import PROGRAM_HELP, ModelSettings, open_program
from vitgraph.tools.pass_options import PIPELINE_HELP, PassSettings, check_pipeline, make_context, read_pipeline
from vitgraph.tools.progress import show_progress

if TYPE_CHECKING:
    from vitgraph.ir.program import Program
    from vitgraph.pass_manager.pipeline import Instrument, Pipeline


@dataclass(frozen=True)
class Watching:
    """What is shown and checked while the passes run."""

    print_ir_before: Annotated[
        list[str], typer.Option(metavar="PASS", help="Print the graph before this pass; may be given again.")
    ] = field(default_factory=list[str])
    print_ir_after: Annotated[
        list[str], typer.Option(metavar="PASS", help="Print the graph after this pass; may be given again.")
    ] = field(default_factory=list[str])
    print_ir_before_all: Annotated[
        bool, typer.Option("--print-ir-before-all", help="Print the graph before every pass.")
    ] = False
    print_ir_after_all: Annotated[bool, typer.Option("--print-ir-after-all", help="Print it after every pass.")] = False
    print_ir_after_change: Annotated[
        bool, typer.Option("--print-ir-after-change", help="Print it after every pass that changed it.")
    ] = False
    verify_each: Annotated[
        bool,
        typer.Option("--verify-each", help="After each pass: verify, and hold the numbers to its declared effect."),
    ] = False
    time_passes: Annotated[bool, typer.Option("--time-passes", help="Tell on standard error how long each took.")] = (
        False
    )
    reproducer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Should a pass fail: write what `vitgraph opt FILE` fails with again."),
    ] = None


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "opt")(optimize)


def optimize(
    model: Annotated[str, typer.Argument(metavar="MODEL|PROGRAM", help=PROGRAM_HELP)],
    settings: ModelSettings,
    surroundings: PassSettings,
    watching: Watching,
    pipeline: Annotated[
        str | None,
        typer.Option(help=PIPELINE_HELP + " Without it: the pass that a reproducer recorded.", show_default=False),
    ] = None,
    fuel: Annotated[
        Natural | None, typer.Option(help="Stop after so many rewrites (a pass that starts counts as one).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the program; else its text is printed.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that exist, which -o and --reproducer name.")
    ] = False,
) -> Answer:
    """Run passes on a model or a saved program."""
    from vitgraph.pass_manager.pipeline import timed_ledger

    steps = None if pipeline is None else read_pipeline(pipeline)
    if output is not None:
        check_file(output, force)
    if steps is not None:
        check_pipeline(steps, surroundings)
    if watching.reproducer is not None:
        check_file(watching.reproducer, force)
    program = open_program(model, settings)
    replayed = steps is None
    if steps is None:
        steps, surroundings = _recorded(program, model, surroundings)
    watched = _instruments(watching, steps, surroundings, verify=watching.verify_each or replayed)
    context = make_context(program, surroundings, settings.seed, fuel)
    with show_progress() as context.progress:
        done = steps.run(program, context, watched)
    for remark in [] if only_errors() else _remarks(done.ledger):
        print(remark, file=sys.stderr)
    if watching.time_passes:
        print(_times(done.ledger, context.durations), file=sys.stderr)
    data: dict[str, Any] = {
        "program": done.name,
        "pipeline": str(steps),
        "passes": timed_ledger(done.ledger, context.durations),
        "rewrites": len(context.spent),
    }
    if output is None:
        return Answer(data | {"text": str(done)}, str(done))
    from vitgraph.ir.program_file import save

    save(done, output, replace=force)
    return Answer(
        data | {"output": str(output)}, f"{output}: {len(done.calls())} calls after {len(done.ledger)} passes"
    )


def _recorded(program: Program, model: str, surroundings: PassSettings) -> tuple[Pipeline, PassSettings]:
    """The pass that a reproducer failed in, and what it was given."""
    found: Any = program.provenance.pop("reproduce", None)
    if found is None:
        raise InputError(f"{model} is no reproducer: give the passes to run with --pipeline")
    try:
        recorded: Any = found.get("settings") or {}
        steps = read_pipeline(found["pipeline"])
        return steps, PassSettings(
            calibration_data=surroundings.calibration_data
            or hold("calibration_data", str | None, recorded.get("calibration_data")),
            calibration_images=hold(
                "calibration_images", ImageCount, recorded.get("calibration_images", surroundings.calibration_images)
            ),
            target=surroundings.target or hold("target", str | None, recorded.get("target")),
        )
    except (AttributeError, KeyError, TypeError, InputError) as error:
        raise InputError(
            f"{model}: what it reproduces can't be read ({error}); give --pipeline, or write it again"
        ) from error


def _instruments(watching: Watching, steps: Pipeline, surroundings: PassSettings, verify: bool) -> list[Instrument]:
    from dataclasses import asdict

    from vitgraph.pass_manager.instruments import Compare, Dump, Reproducer, Verify

    chosen: list[Instrument] = []
    names = {step.name for step in steps.passes}
    for name in [*watching.print_ir_before, *watching.print_ir_after]:
        if name not in names:
            raise InputError(
                f"there is no pass {name!r} in the pipeline to print at; it has {', '.join(sorted(names))}"
            )
    if watching.print_ir_before or watching.print_ir_before_all:
        only = () if watching.print_ir_before_all else watching.print_ir_before
        chosen.append(Dump("before", frozenset(only)))
    if watching.print_ir_after or watching.print_ir_after_all:
        only = () if watching.print_ir_after_all else watching.print_ir_after
        chosen.append(Dump("after", frozenset(only)))
    if watching.print_ir_after_change:
        chosen.append(Dump("change"))
    if watching.reproducer is not None:
        chosen.append(Reproducer(watching.reproducer, asdict(surroundings)))
    return [*chosen, Verify(), Compare()] if verify else chosen


def _remarks(ledger: list[dict[str, Any]]) -> list[str]:
    """What the passes found and what they left alone, a line each."""
    found = [
        f"{entry['name']}: {', '.join(f'{key} {value}' for key, value in each.items())}"
        for entry in ledger
        for each in entry.get("found", [])
    ]
    refused = [
        f"{entry['name']}: left {each['site']} alone: {each['why']}" for entry in ledger for each in entry["refused"]
    ]
    return found + refused


def _times(ledger: list[dict[str, Any]], durations: list[float]) -> str:
    """A line for each pass that ran."""
    ran, total = ledger[len(ledger) - len(durations) :], sum(durations)
    width = max([len(entry["name"]) for entry in ran] + [5])
    lines = [
        f"{entry['name']:<{width}}  {seconds:>8.3f} s  {seconds / max(total, 1e-9):>6.1%}"
        f"  {'changed' if entry['changed'] else ''}".rstrip()
        for entry, seconds in zip(ran, durations, strict=True)
    ]
    return "\n".join([*lines, f"{'total':<{width}}  {total:>8.3f} s"])
