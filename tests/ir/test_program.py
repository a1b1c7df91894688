"""Programs: copies, tensors, and what nothing uses."""

from typing import Any

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


def test_a_program_is_called_and_trained_as_a_module_is() -> None:
    program = parse(TEXT)
    x, old = torch.randn(4, 8), program.tensor("fc.weight").detach().clone()
    optimizer: Any = torch.optim.SGD(program.train().parameters(), lr=0.1)
    first = program(x).square().mean()
    assert first.requires_grad
    assert not program.run(x).requires_grad
    first.backward()
    optimizer.step()
    assert program(x).square().mean() < first
    assert [name for name, _ in program.named_parameters()] == ["fc.weight"]
    assert not torch.equal(program.tensor("fc.weight"), old)
    program.load_state_dict({"fc.weight": old}, strict=False)
    assert torch.equal(program.eval().state_dict()["fc.weight"], old)
    with pytest.raises(RuntimeError, match=r"Missing key.*fc\.bias"):
        program.load_state_dict({"fc.weight": old})


def test_what_owns_its_tensors_trains_alone() -> None:
    program = parse(TEXT)
    program.module.register_parameter("tied", program.tensor("fc.weight"))  # type: ignore[arg-type]
    program.tensor("fc.weight").requires_grad_(False)
    twin = program.copy()
    twin.own_tensors()
    with torch.no_grad():
        twin.tensor("fc.weight").zero_()
        twin.tensor("fc.bias").fill_(7.0)
    assert program.tensor("fc.weight").any()
    assert not bool((program.tensor("fc.bias") == 7.0).any())
    assert not twin.tensor("fc.weight").requires_grad
    program.own_tensors()
    assert program.tensor("fc.weight") is program.tensor("tied")


def test_moves_to_a_device() -> None:
    assert parse(TEXT).to("meta").tensor("fc.weight").is_meta
