"""One check for every pass: text in, text out, and the numbers to go with it."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.ir.verify import check as check_valid
from vitgraph.pass_manager.numerics import objection, reorders_limit
from vitgraph.pass_manager.pass_contract import Context, Pass, Refusal
from vitgraph.pass_manager.pipeline import Pipeline

BATCH = 2
"""What N stands for when a text is run."""


def check(pass_: Pass, before: str, after: str, context: Context | None = None) -> list[Refusal]:
    """Run a pass on a text and hold it to all that is asked of a pass; gives the sites it refused.

    The result's text is that of `after` (comments apart, names dealt afresh); its numbers are within the declared effect on random weights and
    inputs; its text parses back to itself; a second run changes nothing; the verifier has no violation.
    """
    context = context or Context()
    program = parse(before)
    result = run(pass_, program, context)
    refusals = list(context.refusals)
    assert body(show(result)) == body(show(parse(after))), f"text differs; got:\n{show(result)}"
    hold_to_effect(pass_, program, result)
    hold_to_text(result)
    again = run(pass_, result, Context(context.target, context.probe, context.calibration))
    assert show(again) == show(result), f"a second run changes it to:\n{show(again)}"
    return refusals


def run(pass_: Pass, program: Program, context: Context | None = None) -> Program:
    """The pass on a copy of the program, verified."""
    result = Pipeline((pass_,)).run(program, context)
    check_valid(result, f"pass {pass_.name}")
    return result


def hold_to_effect(pass_: Pass, program: Program, result: Program) -> None:
    """Same random inputs into both: the outputs are as near as the pass declares."""
    inputs = random_inputs(program)
    limit = reorders_limit(program, result)
    violation = objection(pass_.declares(), program.run(*inputs), result.run(*inputs), limit)
    assert violation is None, violation


def hold_to_text(program: Program) -> None:
    """The text reads back to the same text, and to a program that gives the same bytes."""
    text = show(program)
    twin = parse(text, program.tensors())
    assert show(twin) == text, f"the text read back is another:\n{show(twin)}"
    inputs = random_inputs(program)
    for ours, theirs in zip(outputs(program.run(*inputs)), outputs(twin.run(*inputs)), strict=True):
        assert torch.equal(ours.nan_to_num(), theirs.nan_to_num()), "the text read back computes something else"


def random_inputs(program: Program, seed: int = 1) -> list[Tensor]:
    """Seeded noise for each input; the batch is `BATCH` where it is not known."""
    generator = torch.Generator().manual_seed(seed)
    return [_noise(kind, generator) for kind in program.input_types()]


def _noise(kind: TensorType, generator: torch.Generator) -> Tensor:
    shape = kind.at(BATCH)
    if kind.dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(kind.dtype)
    return torch.randint(0, 2, shape, generator=generator).to(kind.dtype)


def outputs(result: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """A model's result as a list."""
    return [result] if isinstance(result, Tensor) else list(result)


def body(text: str) -> str:
    """A text without comments, headers and blank lines."""
    lines = [re.sub(r"\s*#.*$", "", line).rstrip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line)


def ledger_findings(context: Context) -> list[dict[str, Any]]:
    """What the passes found, as the ledger has it."""
    return [finding.to_json() for finding in context.findings]
