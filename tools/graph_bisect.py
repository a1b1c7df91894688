"""`vitgraph bisect`: the first pass, and the first site in it, that breaks a model."""

from __future__ import annotations

from typing import Annotated

import typer

from vitgraph.tools.checks import CHECK_HELP, read_check
from vitgraph.tools.command import Answer, command
from vitgraph.tools.drawing import table
from vitgraph.tools.model_options import PROGRAM_HELP, ModelSettings, open_program
from vitgraph.tools.pass_options import PIPELINE_HELP, PassSettings, check_pipeline, make_context, read_pipeline
from vitgraph.tools.progress import show_progress


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "bisect")(bisect_passes)


def bisect_passes(
    model: Annotated[str, typer.Argument(metavar="MODEL|PROGRAM", help=PROGRAM_HELP)],
    pipeline: Annotated[str, typer.Option(help=PIPELINE_HELP)],
    check: Annotated[str, typer.Option(metavar="COMMAND|METRIC", help=CHECK_HELP)],
    settings: ModelSettings,
    surroundings: PassSettings,
) -> Answer:
    """Find the first pass, and the first site in it, after which a check fails."""
    from dataclasses import replace

    from vitgraph.pass_manager.bisection import bisect

    steps = read_pipeline(pipeline)
    check_pipeline(steps, surroundings)
    program = open_program(model, settings)
    context = make_context(program, surroundings, settings.seed)
    judged = read_check(check, program, context.probe)
    with show_progress() as progress:
        verdict = bisect(
            program,
            steps,
            lambda fuel: replace(
                context, fuel=fuel, progress=progress, spent=[], refusals=[], findings=[], timings={}, durations=[]
            ),
            judged.judge,
            judged.make_instruments,
        )
    rows = [
        ["pass", f"{verdict.step} ({verdict.position} of {len(steps.passes)})"],
        ["site", verdict.site or "none: the pass breaks it before it asks for a site"],
        ["why", verdict.why],
        ["fuel", f"good with {verdict.units - 1}, bad with {verdict.units} (of {verdict.total}); {verdict.runs} runs"],
    ]
    return Answer(verdict.to_json() | {"check": check}, table(["first to fail", check], rows))
