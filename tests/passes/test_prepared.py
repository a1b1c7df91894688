"""The form that counting and searching start from."""

import torch
from torch import nn

from tests.planted import MLP
from vitgraph.frontend.capture import capture
from vitgraph.ir.parser import parse
from vitgraph.passes.prepared import prepare


def test_a_captured_program_is_brought_to_it() -> None:
    captured = capture(nn.Sequential(nn.Linear(4, 4), nn.GELU()), torch.randn(1, 4))
    assert prepare(captured).form == "canonical"
    assert captured.form == "captured"


def test_a_canonical_one_is_left_as_it_is() -> None:
    program = parse(MLP)
    assert prepare(program) is program
