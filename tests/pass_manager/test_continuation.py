"""Going on with a pipeline where a program stands."""

import pytest

from tests.planted import MLP
from vitgraph.errors import InputError
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.continuation import remaining
from vitgraph.passes import pipeline

RECIPE = "canonicalize,fold-constants,nm-mask,smooth-quant,quantize,assign-precision,materialize"


def after(text: str) -> Program:
    """A program that says these passes ran."""
    program = parse(MLP)
    program.ledger = [{"name": step.name, "options": {}} for step in pipeline(text).passes]
    return program


@pytest.mark.parametrize(
    ("ran", "left"),
    [
        ("canonicalize,fold-constants,nm-mask,smooth-quant,quantize", "assign-precision,materialize"),
        ("canonicalize,fold-constants,nm-mask", "smooth-quant,quantize,assign-precision,materialize"),
        ("canonicalize,fuse-attention,fold-constants,split-outliers,nm-mask,smooth-quant,quantize,absorb-shifts", "assign-precision,materialize"),
        (RECIPE, ""),
    ],
)  # fmt: skip
def test_goes_on_after_what_has_run(ran: str, left: str) -> None:
    assert str(remaining(pipeline(RECIPE), after(ran))) == left


def test_starts_at_the_head_where_nothing_has_run() -> None:
    assert str(remaining(pipeline(RECIPE), parse(MLP))) == RECIPE


@pytest.mark.parametrize(
    "ran",
    ["canonicalize,fold-constants,smooth-quant,quantize", "canonicalize,quantize", "quantize"],
)
def test_refuses_to_quantize_what_is_quantized(ran: str) -> None:
    with pytest.raises(InputError, match="come to quantize, but quantize has run"):
        remaining(pipeline(RECIPE), after(ran))


def test_other_options_are_another_pass() -> None:
    with pytest.raises(InputError, match="n=1"):
        remaining(pipeline(RECIPE.replace("nm-mask", "nm-mask{n=1}")), after("canonicalize,fold-constants,nm-mask"))
