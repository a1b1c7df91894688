"""What is left of a pipeline for a program that other passes have been through already.

A program that `quantize` made is compiled by the same recipe from where it stands: its scales, and the weights that were
trained with them, stay. The ledger says which passes ran, with their options.
"""

from __future__ import annotations

from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Effect, Pass
from vitgraph.pass_manager.pipeline import Pipeline, options_of, show_pass


def remaining(pipeline: Pipeline, program: Program) -> Pipeline:
    """The passes after those at the pipeline's head that have run on the program, in this order and with these options.

    Passes that ran besides (a mask ahead of a recipe that only quantizes) are no hindrance. Raises `InputError` where what
    is left holds a lossy pass that has run already: masks would be chosen again, or codes rounded again.
    """
    steps, place = list(pipeline.passes), 0
    for entry in program.ledger:
        if place < len(steps) and _is(steps[place], entry["name"], entry["options"]):
            place += 1
    left = steps[place:]
    ran = {entry["name"]: entry for entry in program.ledger}
    for step in left:
        if step.declares() is Effect.LOSSY and step.name in ran:
            raise InputError(_conflict(program, left[0], step))
    return Pipeline(tuple(left))


def _is(step: Pass, name: str, options: object) -> bool:
    return step.name == name and options_of(step) == options


def _conflict(program: Program, first: Pass, again: Pass) -> str:
    ran = ", ".join(entry["name"] for entry in program.ledger)
    return (
        f"{program.name}: this pipeline would go on with {show_pass(first)} and come to {show_pass(again)}, but {again.name} "
        f"has run on the program already, at another place or with other options (what ran: {ran}); take the recipe that "
        "it was made with, give the passes that are left as `pipeline`, or start from the model"
    )
