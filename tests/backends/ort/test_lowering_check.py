"""Every call of a program beside the file: right ones pass in every number format, and wrong ones are named."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.backends.operator_cases import CASES, batch_for, build
from vitgraph.backends.onnx import lowering
from vitgraph.backends.onnx.cut import Cutter, fed
from vitgraph.backends.onnx.graph_builder import Call, Lowering
from vitgraph.backends.ort.lowering_check import LoweringCheck, check_lowering
from vitgraph.backends.ort.parts import Parts
from vitgraph.compile.compiler import compile_model
from vitgraph.compile.report import read_report
from vitgraph.errors import CheckFailed, InputError
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


def checked(text: str, folder: Path) -> LoweringCheck:
    program = parse(text)
    batch = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0)).to(program.input_types()[0].dtype)
    return check_lowering(program, lowering.lower(program, folder / "model.onnx"), batch)


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_a_wrong_form_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SOFTPLUS.format(type=kind)
    right = checked(text, tmp_path)
    assert (right.calls, right.violations) == (3, ())
    monkeypatch.setitem(lowering.RULES, aten.softplus.default, without_threshold)
    wrong = checked(text, tmp_path)
    assert [violation.site for violation in wrong.violations] == ["act (aten.softplus.default)"]
    assert wrong.worst is not None
    assert 0.02 < wrong.worst < 0.2


def test_a_value_that_comes_from_the_wrong_place_is_named(tmp_path: Path) -> None:
    program = parse(SOFTPLUS.format(type="f32"))
    model = lowering.lower(program, tmp_path / "model.onnx")
    file = onnx.load(str(model.path))  # pyright: ignore[reportUnknownMemberType]
    adding = next(node for node in file.graph.node if node.op_type == "Add")
    adding.input[0] = adding.input[1]
    onnx.save(file, str(model.path))  # pyright: ignore[reportUnknownMemberType]
    found = check_lowering(program, model, torch.randn(2, 4, 8))
    assert [violation.site for violation in found.violations] == ["the model itself (aten.add.Tensor)"]


def test_constants_in_a_file_of_their_own_are_read_from_there(tmp_path: Path) -> None:
    program = parse(LINEAR)
    weight = program.tensors()["fc.weight"]
    model = lowering.lower(program, tmp_path / "model.onnx", external_bytes=1000)
    data = tmp_path / "model.onnx.data"
    batch = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    right = check_lowering(program, model, batch)
    assert (right.calls, right.violations) == (2, ())
    part = Cutter(model.path).part(model.outputs, model.inputs)
    assert (
        len(part.SerializeToString()) < weight.nbytes
    )  # pointed to, not copied: a part too is a message of 2 GiB at most
    data.write_bytes(bytes(data.stat().st_size))
    wrong = check_lowering(program, model, batch)
    assert [violation.site for violation in wrong.violations] == ["fc (aten.linear.default)"]


def test_nan_in_one_of_them_alone_is_infinitely_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lowering.RULES, aten.softplus.default, lambda g, call: g.emit("Log", g.value(call["self"])))
    found = checked(SOFTPLUS.format(type="f32"), tmp_path)
    assert found.violations[0].found.startswith("inf off")


def test_what_a_cpu_has_no_kernels_for_is_said(tmp_path: Path) -> None:
    found = checked(SOFTPLUS.format(type="bf16"), tmp_path)
    assert (found.calls, found.compared, found.worst, found.violations) == (3, 0, None, ())
    assert found.why is not None
    assert "bfloat16" in found.why
    assert "\n" not in found.why
    assert "executing" not in found.why


MIXED = """
# program: p
# form: canonical
x: f32[N, 4, 8] = input()
a: f32[N, 4, 8] = aten.softplus.default(x, 1, 1.0)  # act
b: bf16[N, 4, 8] = aten.to.dtype(a, bf16)  # half
c: bf16[N, 4, 8] = aten.relu.default(b)  # relu
d: f32[N, 4, 8] = aten.to.dtype(c, f32)  # back
e: f32[N, 4, 8] = aten.exp.default(d)  # last
return_(e)
"""


@pytest.mark.parametrize("bytes_of_a_part", [0, 1 << 20])
def test_a_part_without_kernels_hides_no_other(
    bytes_of_a_part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitgraph.backends.ort.lowering_check.PART_BYTES", bytes_of_a_part)
    assert (checked(MIXED, tmp_path).compared, checked(MIXED, tmp_path).violations) == (2, ())
    monkeypatch.setitem(lowering.RULES, aten.softplus.default, without_threshold)
    monkeypatch.setitem(lowering.RULES, aten.exp.default, lambda g, call: g.emit("Sqrt", g.value(call["self"])))
    found = checked(MIXED, tmp_path)
    assert [each.site for each in found.violations] == ["act (aten.softplus.default)", "last (aten.exp.default)"]
    assert (found.calls, found.compared) == (5, 2)
    assert found.why is not None
    assert "bfloat16" in found.why


def spoiled(text: str, folder: Path, spoil: Callable[[onnx.ModelProto], object]) -> LoweringCheck:
    """The check of a file in which something was changed after it was written."""
    program = parse(text)
    model = lowering.lower(program, folder / "model.onnx")
    file = onnx.load(str(model.path))  # pyright: ignore[reportUnknownMemberType]
    spoil(file)
    onnx.save(file, str(model.path))  # pyright: ignore[reportUnknownMemberType]
    return check_lowering(program, model, torch.randn(2, 4, 8))


def unknown_operator(file: onnx.ModelProto) -> None:
    next(node for node in file.graph.node if node.op_type == "Add").op_type = "Addd"


def contradiction(file: onnx.ModelProto) -> None:
    adding = next(node for node in file.graph.node if node.op_type == "Add")
    cast = onnx.helper.make_node("Cast", [adding.input[1]], ["cast"], to=onnx.TensorProto.BFLOAT16)
    adding.input[1] = "cast"
    file.graph.node.insert(0, cast)


def fails_when_run(file: onnx.ModelProto) -> None:
    adding = next(node for node in file.graph.node if node.op_type == "Add")
    file.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((5, 7), np.float32), "five by seven"))
    adding.input[1] = "five by seven"
    del file.graph.value_info[:]
    for name in {each for node in file.graph.node for each in node.output}:
        file.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    for each in (*file.graph.input, *file.graph.output):
        each.type.tensor_type.ClearField("shape")


@pytest.mark.parametrize("spoil", [unknown_operator, contradiction, fails_when_run])
def test_what_onnx_runtime_refuses_for_another_reason_is_wrong(
    spoil: Callable[[onnx.ModelProto], object], tmp_path: Path
) -> None:
    found = spoiled(SOFTPLUS.format(type="f32"), tmp_path, spoil)
    (told,) = found.violations
    assert told.site == "the model itself (aten.add.Tensor)"
    assert told.found.startswith("a part of model.onnx: ONNX Runtime ")
    assert "\n" not in told.found
    assert (found.calls, found.compared) == (3, 2)


def test_a_value_that_the_file_does_not_name_is_not_compared(tmp_path: Path) -> None:
    program = parse(SOFTPLUS.format(type="f32"))
    model = lowering.lower(program, tmp_path / "model.onnx")
    batch = torch.randn(2, 4, 8)
    first, *others = model.values
    found = check_lowering(program, replace(model, values={name: model.values[name] for name in others}), batch)
    assert (found.calls, found.compared, found.violations) == (3, 2, ())
    assert found.why == "model.onnx has no value of scale (aten.mul.Tensor)"
    found = check_lowering(program, replace(model, values={**model.values, first: ("gone",)}), batch)
    assert (found.calls, found.compared, found.why) == (3, 2, "model.onnx has no value gone")
    found = check_lowering(program, replace(model, values={}), batch)
    assert (found.calls, found.compared, found.worst, found.worst_at) == (3, 0, None, None)
    assert found.to_json()["why"] == found.why


def test_parts_that_fail_together_alone_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Parts.compute

    def compute(parts: Parts, wanted: Collection[str], values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if len(wanted) > 1:
            raise InputError("a part of model.onnx: ONNX Runtime 1 refuses it: a bad fusion")
        return real(parts, wanted, values)

    monkeypatch.setattr(Parts, "compute", compute)
    found = checked(SOFTPLUS.format(type="f32"), tmp_path)
    assert (found.calls, found.compared) == (3, 3)
    assert [each.site for each in found.violations] == ["scale (aten.mul.Tensor) to the model itself (aten.add.Tensor)"]


@pytest.mark.parametrize("name", sorted(CASES)[::4])
def test_the_operators_of_the_dialect_pass(name: str, tmp_path: Path) -> None:
    program = build(CASES[name])
    model = lowering.lower(program, tmp_path / "model.onnx")
    found = check_lowering(program, model, batch_for(program))
    assert found.violations == ()
    assert found.calls == found.compared > 0


OF_CONSTANTS = """
# program: p
# form: canonical
x: f32[N, 4, 8] = input()
w: f32[4, 8] = weight("w")
a: f32[4, 8] = aten.exp.default(w)  # scale
b: f32[N, 4, 8] = aten.mul.Tensor(x, a)
return_(b)
"""


def test_a_call_of_constants_is_held_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = checked(OF_CONSTANTS, tmp_path)
    assert (right.calls, right.compared, right.violations) == (2, 2, ())
    monkeypatch.setitem(lowering.RULES, aten.exp.default, lambda g, call: g.emit("Abs", g.value(call["self"])))
    assert [each.site for each in checked(OF_CONSTANTS, tmp_path).violations] == ["scale (aten.exp.default)"]


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
    assert report.lowering["calls"] == report.lowering["compared"] > 20
    assert report.uncompared is None
    assert len(report.violations) == 4
