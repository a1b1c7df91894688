"""What holds of every captured model: its numbers, and those of the canonical form, whose text reads back to the same program."""

from __future__ import annotations

import torch

from tests.coverage.measuring import Captured
from tests.harness import outputs
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.verify import check
from vitgraph.pass_manager.numerics import objection
from vitgraph.pass_manager.pass_contract import Effect
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes.canonicalize.canonicalize import Canonicalize


def hold_to_canonical_form(captured: Captured, capture: Effect = Effect.EXACT) -> None:
    """Compare capture and canonical form with eager mode, read the text back and run what was read; canonicalize twice."""
    image, steps = captured.image, Pipeline((Canonicalize(),))
    with torch.no_grad():
        wanted = captured.module(image)
    assert objection(capture, wanted, captured.program.run(image)) is None
    program = steps.run(captured.program)
    check(program, "canonicalize")
    found = program.run(image)
    assert objection(Canonicalize().declares(), wanted, found) is None
    text = show(program)
    twin = parse(text, program.tensors())
    assert show(twin) == text
    for ours, theirs in zip(outputs(found), outputs(twin.run(image)), strict=True):
        assert torch.equal(ours, theirs)
    assert show(steps.run(program)) == text
