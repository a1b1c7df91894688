"""Every violation of the verifier, provoked; and a program without fault, without violation."""

from collections.abc import Callable

import pytest
import torch

from vitgraph.errors import PassError
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.ir.verify import check, verify

TEXT = """
x: f32[N, 8] = input()
w: f32[8, 8] = weight("fc.weight")
linear: f32[N, 8] = aten.linear.default(x, w, None)
s: f32[] = constant("scale")
quantized: f32[N, 8] = vitgraph.fake_quantize.default(linear, s)
relu: f32[N, 8] = aten.relu.default(quantized)
return_(relu)
"""


def valid() -> Program:
    program = parse(TEXT)
    program.tensor("scale").fill_(0.1)
    return program


def change_target(program: Program, target: object) -> None:
    program.calls(aten.relu.default)[0].target = target  # type: ignore[assignment]


def move_up(program: Program) -> None:
    program.calls(aten.linear.default)[0].prepend(program.calls(aten.relu.default)[0])


def wrong_type(program: Program) -> None:
    program.calls(aten.relu.default)[0].meta["type"] = TensorType(torch.float16, (1, 8))


def wrong_arguments(program: Program) -> None:
    node = program.calls(aten.linear.default)[0]
    node.target = aten.reshape.default
    node.args = (node.args[0], [3, -1])


def missing_weight(program: Program) -> None:
    delattr(program.module.fc, "weight")


def weight_of_another_shape(program: Program) -> None:
    program.module.fc.weight = torch.nn.Parameter(torch.zeros(8, 7))  # type: ignore[union-attr]


def weight_not_a_number(program: Program) -> None:
    program.tensor("fc.weight").data[0, 0] = float("nan")


def weight_without_end(program: Program) -> None:
    program.tensor("fc.weight").data[0, 0] = float("-inf")


def scale_without_end(program: Program) -> None:
    program.tensor("scale").fill_(float("inf"))


def scale_of_zero(program: Program) -> None:
    program.tensor("scale").zero_()


def input_without_type(program: Program) -> None:
    del program.inputs[0].meta["type"]


def no_output(program: Program) -> None:
    program.graph.erase_node(program.output)


def module_call(program: Program) -> None:
    program.module.add_module("act", torch.nn.ReLU())
    with program.graph.inserting_before(program.output):
        program.graph.call_module("act", (program.calls()[-1],))


FAULTS: dict[str, tuple[Callable[[Program], None], str]] = {
    "outside the dialect": (lambda program: change_target(program, aten.relu6.default), "not of the dialect"),
    "writes into its argument": (
        lambda program: change_target(program, aten.relu_.default),
        "writes into its argument",
    ),
    "no operator": (lambda program: change_target(program, torch.relu), "no operator of a graph"),
    "order": (move_up, "stands below"),
    "type": (wrong_type, "carries type f16"),
    "arguments": (wrong_arguments, "arguments don't fit"),
    "missing weight": (missing_weight, "no tensor 'fc.weight'"),
    "weight's shape": (weight_of_another_shape, "but the tensor is"),
    "weight's values": (weight_not_a_number, "holds NaN"),
    "weight's infinities": (weight_without_end, "holds infinities"),
    "scale's infinity": (scale_without_end, "scale must be positive and finite"),
    "scale": (scale_of_zero, "scale must be positive"),
    "input": (input_without_type, "an input needs a tensor type"),
    "output": (no_output, "one output; this one has 0"),
    "kind of node": (module_call, "call_module has no place"),
}


def test_a_valid_program_gets_no_violation() -> None:
    program = valid()
    assert verify(program) == {}
    check(program, "nothing")


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named(name: str) -> None:
    break_, words = FAULTS[name]
    program = valid()
    break_(program)
    violations = [line for lines in verify(program).values() for line in lines]
    assert any(words in line for line in violations), violations


def test_all_faults_are_named_at_once_under_their_lines() -> None:
    program = valid()
    scale_of_zero(program)
    change_target(program, aten.relu6.default)
    with pytest.raises(PassError) as caught:
        check(program, "pass 'x'")
    message = str(caught.value)
    assert "pass 'x' left an invalid graph, 2 violation(s)" in message
    lines = message.splitlines()
    for name, words in (("fake_quantize", "scale must be positive"), ("relu6", "not of the dialect")):
        place = next(number for number, line in enumerate(lines) if line.startswith("#   ^ ") and words in line)
        assert lines[place - 1].startswith(name)


def test_a_captured_program_may_hold_any_operator() -> None:
    program = valid()
    change_target(program, aten.relu6.default)
    program.form = "captured"
    assert verify(program) == {}


def test_a_constant_may_hold_infinities_as_masks_do() -> None:
    text = 'x: f32[4, 4] = input()\nm: f32[4, 4] = constant("m")\ny: f32[4, 4] = aten.add.Tensor(x, m)\nreturn_(y)'
    mask = torch.full((4, 4), float("-inf")).triu(1)
    assert verify(parse(text, {"m": mask})) == {}
    mask[0, 0] = float("nan")
    assert "holds NaN" in str(verify(parse(text, {"m": mask})))


@pytest.mark.parametrize(("said", "shown"), [("", "ValueError"), ("\n\nno\nmore", "no")])
def test_an_objection_may_have_no_text(said: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def objects(node: object) -> None:
        raise ValueError(said)

    program = valid()
    monkeypatch.setattr("vitgraph.ir.verify.infer_node", objects)
    assert {line for lines in verify(program).values() for line in lines} == {f"its arguments don't fit: {shown}"}


CODES = """
q: i8[2, 4] = constant("q")
s: f32[2, {groups}] = constant("s")
x: f32[2, 4] = input()
w: f32[2, 4] = vitgraph.dequantize.default(q, s, 1, '{format}')
y: f32[2, 4] = aten.add.Tensor(x, w)
return_(y)
"""


@pytest.mark.parametrize(
    ("code", "groups", "format", "words"),
    [
        (7, 2, "int4", None),
        (8, 2, "int4", "codes that int4 does not have"),
        (8, 2, "int8", None),
        (-9, 1, "int4", "codes that int4 does not have"),
        (7, 3, "int4", "arguments don't fit"),
        (7, 2, "int3", "arguments don't fit: no number format 'int3'"),
        (7, 2, "fp8", "arguments don't fit: dequantize: fp8 codes are torch.float8_e4m3fn, not torch.int8"),
    ],
)
def test_codes_are_ones_of_their_format(code: int, groups: int, format: str, words: str | None) -> None:
    tensors = {"q": torch.tensor([[0, 1, -2, code]] * 2, dtype=torch.int8), "s": torch.ones(2, groups)}
    found = verify(parse(CODES.format(groups=groups, format=format), tensors))
    assert bool(found) == (words is not None)
    assert words is None or words in str(found)
