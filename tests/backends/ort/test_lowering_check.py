"""Every call of a program beside the file: right ones pass in every number format, and wrong ones are named."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from tests.backends.operator_cases import CASES, batch_for, build
from vitgraph.backends.onnx import lowering
from vitgraph.backends.onnx.cut import Cutter, fed
from vitgraph.backends.onnx.graph_builder import Call, Lowering
from vitgraph.backends.ort.lowering_check import LoweringCheck, check_lowering
from vitgraph.compile.compiler import compile_model
from vitgraph.compile.report import read_report
from vitgraph.errors import CheckFailed
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse

SOFTPLUS = """
# program: p
# form: canonical
x: {type}[N, 4, 8] = input()
a: {type}[N, 4, 8] = aten.mul.Tensor(x, 2.0)  # scale
b: {type}[N, 4, 8] = aten.softplus.default(a, 1, 1.0)  # act
c: {type}[N, 4, 8] = aten.add.Tensor(b, x)
return_(c)
"""

LINEAR = """
# program: p
# form: canonical
x: f32[N, 64] = input()
fc_weight: f32[64, 64] = weight("fc.weight")
linear: f32[N, 64] = aten.linear.default(x, fc_weight)  # fc
relu: f32[N, 64] = aten.relu.default(linear)  # act
return_(relu)
"""


def without_threshold(g: Lowering, call: Call) -> Any:
    """The form that softplus once had: some percent off where the threshold is low."""
    return g.emit("Softplus", g.value(call["self"]))


def checked(text: str, folder: Path) -> LoweringCheck | str:
    program = parse(text)
    batch = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0)).to(program.input_types()[0].dtype)
    return check_lowering(program, lowering.lower(program, folder / "model.onnx"), batch)


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_a_wrong_form_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SOFTPLUS.format(type=kind)
    right = checked(text, tmp_path)
    assert isinstance(right, LoweringCheck)
    assert (right.calls, right.violations) == (3, ())
    monkeypatch.setitem(lowering.RULES, aten.softplus.default, without_threshold)
    wrong = checked(text, tmp_path)
    assert isinstance(wrong, LoweringCheck)
    assert [violation.site for violation in wrong.violations] == ["act (aten.softplus.default)"]
    assert 0.02 < wrong.worst < 0.2


def test_a_value_that_comes_from_the_wrong_place_is_named(tmp_path: Path) -> None:
    program = parse(SOFTPLUS.format(type="f32"))
    model = lowering.lower(program, tmp_path / "model.onnx")
    file = onnx.load(str(model.path))  # pyright: ignore[reportUnknownMemberType]
    adding = next(node for node in file.graph.node if node.op_type == "Add")
    adding.input[0] = adding.input[1]
    onnx.save(file, str(model.path))  # pyright: ignore[reportUnknownMemberType]
    found = check_lowering(program, model, torch.randn(2, 4, 8))
    assert isinstance(found, LoweringCheck)
    assert [violation.site for violation in found.violations] == ["the model itself (aten.add.Tensor)"]


def test_constants_in_a_file_of_their_own_are_read_from_there(tmp_path: Path) -> None:
    program = parse(LINEAR)
    weight = program.tensors()["fc.weight"]
    model = lowering.lower(program, tmp_path / "model.onnx", external_bytes=1000)
    data = tmp_path / "model.onnx.data"
    batch = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    right = check_lowering(program, model, batch)
    assert isinstance(right, LoweringCheck)
    assert (right.calls, right.violations) == (2, ())
    part = Cutter(model.path).part(model.outputs, model.inputs)
    assert (
        len(part.SerializeToString()) < weight.nbytes
    )  # pointed to, not copied: a part too is a message of 2 GiB at most
    data.write_bytes(bytes(data.stat().st_size))
    wrong = check_lowering(program, model, batch)
    assert isinstance(wrong, LoweringCheck)
    assert [violation.site for violation in wrong.violations] == ["fc (aten.linear.default)"]


def test_nan_in_one_of_them_alone_is_infinitely_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lowering.RULES, aten.softplus.default, lambda g, call: g.emit("Log", g.value(call["self"])))
    found = checked(SOFTPLUS.format(type="f32"), tmp_path)
    assert isinstance(found, LoweringCheck)
    assert found.violations[0].found.startswith("inf off")


def test_what_a_cpu_has_no_kernels_for_is_said(tmp_path: Path) -> None:
    said = checked(SOFTPLUS.format(type="bf16"), tmp_path)
    assert isinstance(said, str)
    assert "bfloat16" in said


@pytest.mark.parametrize("name", sorted(CASES)[::4])
def test_the_operators_of_the_dialect_pass(name: str, tmp_path: Path) -> None:
    program = build(CASES[name])
    model = lowering.lower(program, tmp_path / "model.onnx")
    found = check_lowering(program, model, batch_for(program))
    assert isinstance(found, str) or found.violations == ()


def test_a_part_reads_what_it_is_handed(tmp_path: Path) -> None:
    program = parse(SOFTPLUS.format(type="f32"))
    model = lowering.lower(program, tmp_path / "model.onnx")
    (scaled,), (act,), _ = model.values.values()
    part = Cutter(model.path).part([act], [scaled])
    assert [each.name for each in part.graph.input] == [fed(scaled)]
    assert [each.name for each in part.graph.output] == [act]
    assert "Mul" not in {node.op_type for node in part.graph.node}


def test_a_compilation_that_is_wrong_says_so_without_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lowering.RULES, aten.gelu.default, lambda g, call: g.emit("Relu", g.value(call["self"])))
    with pytest.raises(CheckFailed, match=r"blocks\.0\.mlp\.act \(aten\.gelu\.default\)"):
        compile_model("digits-vit", target="orin-agx", recipe="fp16", out=tmp_path / "out")
    report = read_report(tmp_path / "out")
    assert report.lowering is not None
    assert report.lowering["worst_relative_l2"] > 0.02
    assert len(report.violations) == 4
