"""Programs: copies, tensors, and what nothing uses."""

import pytest
import torch

from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse

TEXT = """# program: tiny
# form: canonical
x: f32[N, 8] = input()
fc_weight: f32[8, 8] = weight("fc.weight")
fc_bias: f32[8] = constant("fc.bias")
linear: f32[N, 8] = aten.linear.default(x, fc_weight, fc_bias)  # fc
return_(linear)
"""


def test_a_copy_is_its_own_graph_on_the_same_tensors() -> None:
    program = parse(TEXT)
    twin = program.copy()
    assert str(twin) == str(program)
    assert twin.tensor("fc.weight") is program.tensor("fc.weight")
    twin.insert(twin.output, aten.relu.default, twin.calls()[0])
    twin.add_tensor("fc.extra", torch.zeros(1))
    assert str(program) == TEXT
    assert not hasattr(program.module.fc, "extra")


def test_tensors_are_never_written_over() -> None:
    program = parse(TEXT)
    old = program.tensor("fc.weight")
    assert program.add_tensor("fc.weight", torch.zeros(2)) == "fc.weight_1"
    assert program.tensor("fc.weight") is old
    with pytest.raises(KeyError):
        program.tensor("fc.nothing")


def test_what_nothing_uses_is_cleaned_away() -> None:
    program = parse(TEXT)
    node = program.insert(program.output, aten.relu.default, program.calls()[0], path="act")
    assert str(node.meta["type"]) == "f32[N, 8]"
    assert node.meta["path"] == "act"
    program.clean()
    assert str(program) == TEXT
