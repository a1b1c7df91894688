"""Weights under the names that they had in the model."""

import torch

from tests.planted import MLP
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_names import restore_names, trained_names


def renamed(*pairs: tuple[str, str]) -> Program:
    """The program with some weights under other names."""
    text = MLP
    for old, new in pairs:
        text = text.replace(f'"{old}"', f'"{new}"')
    return parse(text)


def test_an_heir_gets_the_name_back() -> None:
    program, original = (
        renamed(("fc1.weight", "fc1.weight_updated"), ("fc2.bias", "fc2.bias_1")),
        trained_names(parse(MLP)),
    )
    x = torch.randn(4, 8)
    before = program.run(x)
    program.tensor("fc1.weight_updated").requires_grad_(False)
    restore_names(program, original)
    assert {name for name, _ in program.named_parameters()} == set(original)
    assert set(program.tensors()) == set(original)
    assert program.tensor("fc1.weight").requires_grad
    assert torch.equal(program.run(x), before)


def test_frozen_weights_stay_frozen() -> None:
    original = trained_names(parse(MLP)) | {"fc1.weight": False}
    program = renamed(("fc1.weight", "fc1.weight_fitted"))
    restore_names(program, original)
    assert [name for name, each in program.named_parameters() if not each.requires_grad] == ["fc1.weight"]


def test_two_heirs_keep_their_names() -> None:
    program = renamed(("fc1.weight", "fc1.weight_a"), ("fc2.weight", "fc1.weight_b"))
    restore_names(program, {"fc1.weight": True})
    assert {"fc1.weight_a", "fc1.weight_b"} <= set(program.tensors())


def test_a_name_that_a_constant_has_is_left_to_it() -> None:
    program = parse(
        MLP.replace('weight("fc1.bias")', 'constant("fc1.weight")').replace('"fc1.weight")\nb', '"fc1.weight_1")\nb')
    )
    restore_names(program, {"fc1.weight": True})
    assert {"fc1.weight", "fc1.weight_1"} <= set(program.tensors())
