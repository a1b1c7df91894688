"""The ONNX file: its names, forms, bytes and what is said of it; numbers are held by test_conformance and test_ort."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper

from tests.backends.operator_cases import CASES, batch_for, build
from tests.conftest import ROOT
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.ort.backend import Ort
from vitgraph.errors import InputError
from vitgraph.ir.dialect import fake_quantize, quantize_values
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program

BLOCK = """
# program: block
# form: canonical
x: f32[N, 5, 32] = input()
in_scale: f32[] = constant("attn.qkv.input_scale")
fake_quantize: f32[N, 5, 32] = vitgraph.fake_quantize.default(x, in_scale)  # attn.qkv
qkv_weight: f32[96, 32] = weight("attn.qkv.weight")
qkv_scale: f32[96] = constant("attn.qkv.weight_scale")
fake_quantize_1: f32[96, 32] = vitgraph.fake_quantize.default(qkv_weight, qkv_scale, 0)  # attn.qkv
qkv_bias: f32[96] = weight("attn.qkv.bias")
linear: f32[N, 5, 96] = aten.linear.default(fake_quantize, fake_quantize_1, qkv_bias)  # attn.qkv
reshape: f32[N, 5, 3, 2, 16] = aten.reshape.default(linear, [-1, 5, 3, 2, 16])  # attn
permute: f32[3, N, 2, 5, 16] = aten.permute.default(reshape, [2, 0, 3, 1, 4])  # attn
select: f32[N, 2, 5, 16] = aten.select.int(permute, 0, 0)  # attn
select_1: f32[N, 2, 5, 16] = aten.select.int(permute, 0, 1)  # attn
select_2: f32[N, 2, 5, 16] = aten.select.int(permute, 0, 2)  # attn
bias: f32[1, 2, 5, 5] = constant("attn.bias")
probability_scale: f32[] = constant("attn.probability_scale")
attention: f32[N, 2, 5, 16] = vitgraph.attention.default(select, select_1, select_2, bias, 0.25, probability_scale)  # attn
permute_1: f32[N, 5, 2, 16] = aten.permute.default(attention, [0, 2, 1, 3])  # attn
reshape_1: f32[N, 5, 32] = aten.reshape.default(permute_1, [-1, 5, 32])  # attn
proj_weight: f32[32, 32] = weight("attn.proj.weight")
keep: bool[32, 32] = constant("attn.proj.keep")
mask: f32[32, 32] = vitgraph.mask.default(proj_weight, keep)  # attn.proj
linear_1: f32[N, 5, 32] = aten.linear.default(reshape_1, mask)  # attn.proj
add: f32[N, 5, 32] = aten.add.Tensor(x, linear_1)
q: i8[10, 32] = constant("head.weight")
q_scale: f32[10] = constant("head.weight_scale")
dequantize: f32[10, 32] = vitgraph.dequantize.default(q, q_scale, 0)  # head
linear_2: f32[N, 5, 10] = aten.linear.default(add, dequantize)  # head
return_(linear_2)
"""


def block() -> Program:
    program = parse(BLOCK)
    generator = torch.Generator().manual_seed(3)
    for name, tensor in program.tensors().items():
        if name.endswith("scale"):
            tensor.abs_().mul_(0.02).add_(0.01)
        if tensor.dtype == torch.int8:
            tensor.copy_(torch.randint(-128, 128, tensor.shape, generator=generator))
    return program


def load(path: Path) -> onnx.ModelProto:
    untyped: Any = onnx
    model: onnx.ModelProto = untyped.load(path)
    return model


def check_model(model: onnx.ModelProto | Path) -> None:
    untyped: Any = onnx.checker
    untyped.check_model(model, full_check=True)


def from_numpy(array: Any) -> torch.Tensor:
    return torch.tensor(array)


def stored(model: onnx.ModelProto) -> dict[str, Any]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def nodes(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {node.name: node for node in model.graph.node}


@pytest.mark.parametrize("case", CASES)
def test_checker_passes(case: str, tmp_path: Path) -> None:
    """Types and shapes that vitgraph writes are those ONNX infers, strictly."""
    lower(build(CASES[case]), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    check_model(model)
    onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True, data_prop=True)


def test_checker_objects_to_a_wrong_shape(tmp_path: Path) -> None:
    lower(build(CASES["linear"]), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 17
    with pytest.raises(onnx.shape_inference.InferenceError):
        check_model(model)


def test_versions_are_those_runtimes_take(tmp_path: Path) -> None:
    lower(build(CASES["linear"]), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    assert (model.ir_version, model.opset_import[0].version, len(model.opset_import)) == (9, 20, 1)


def test_nodes_are_named_after_modules(tmp_path: Path) -> None:
    lower(block(), tmp_path / "m.onnx")
    found = [node.name for node in load(tmp_path / "m.onnx").graph.node]
    assert found == [
        "attn.qkv/QuantizeLinear",
        "attn.qkv/DequantizeLinear",
        "attn.qkv/DequantizeLinear_2",
        "attn.qkv/MatMul",
        "attn.qkv/Add",
        "attn/Reshape",
        "attn/Transpose",
        *("attn/Gather", "attn/Gather_2", "attn/Gather_3"),
        "attn/Mul",
        "attn/Transpose_2",
        "attn/MatMul",
        "attn/Add",
        "attn/Softmax",
        "attn/QuantizeLinear",
        "attn/DequantizeLinear",
        "attn/MatMul_2",
        "attn/Transpose_3",
        "attn/Reshape_2",
        "attn.proj/MatMul",
        "model/Add",
        "head/DequantizeLinear",
        "head/MatMul",
    ]


def test_names_of_values_are_unique(tmp_path: Path) -> None:
    program = build("output: f32[2, 3] = input(); a = aten.relu.default(output); b = aten.relu.default(a)")
    lower(program, tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx").graph
    names = [each.name for each in (*graph.input, *graph.initializer)] + [o for n in graph.node for o in n.output]
    assert len(names) == len(set(names))
    assert graph.output[0].name == "output_"


def test_what_is_said_of_linears_and_attentions(tmp_path: Path) -> None:
    model = lower(block(), tmp_path / "m.onnx")
    file = load(tmp_path / "m.onnx")
    qkv, proj, head = model.linears
    assert (qkv.path, qkv.node, qkv.planned, qkv.weight, qkv.k_axis) == (
        *("attn.qkv", "attn.qkv/MatMul", "int8", "attn.qkv.weight", 0),
    )
    assert (proj.path, proj.input_format, proj.weight_format, proj.weight) == ("attn.proj", None, None, None)
    assert (head.path, head.input_format, head.weight_format, head.planned) == ("head", None, "int8", "float")
    assert [(a.path, a.softmax, a.planned) for a in model.attentions] == [("attn", "attn/Softmax", "int8")]
    for name in (qkv.node, proj.node, head.node, model.attentions[0].softmax):
        assert name in nodes(file)
    assert set(model.weights) == {"attn.qkv.weight", "head.weight"}
    for name, weight in model.weights.items():
        assert stored(file)[name].tobytes() == weight.contiguous().numpy().tobytes()
    assert model.dynamic_batch
    assert list(model.inputs) == ["x"]
    assert list(model.outputs) == ["output"]
    assert model.operators["MatMul"] == 5


def test_int8_weights_are_the_eager_grid_transposed(tmp_path: Path) -> None:
    program = block()
    lower(program, tmp_path / "m.onnx")
    file = load(tmp_path / "m.onnx")
    weight, scale = program.tensor("attn.qkv.weight").detach(), program.tensor("attn.qkv.weight_scale")
    q = from_numpy(stored(file)["attn.qkv.weight"].copy())
    assert q.dtype == torch.int8
    assert torch.equal(q.t() * scale[:, None], fake_quantize(weight, scale, 0))
    assert torch.equal(from_numpy(stored(file)["head.weight"].copy()).t(), program.tensor("head.weight"))
    (axis,) = nodes(file)["head/DequantizeLinear"].attribute
    assert (axis.name, axis.i) == ("axis", 1)


def test_rounding_of_weights_is_half_to_even_and_clamped() -> None:
    weight = torch.tensor([0.5, 1.5, -0.5, -2.5, 127.6, -200.0])
    wanted = torch.tensor([0, 2, 0, -2, 127, -128], dtype=torch.int8)
    assert torch.equal(quantize_values(weight, torch.tensor(1.0)), wanted)


def test_masks_are_folded(tmp_path: Path) -> None:
    program = block()
    lower(program, tmp_path / "m.onnx")
    file = load(tmp_path / "m.onnx")
    product = program.tensor("attn.proj.weight").detach() * program.tensor("attn.proj.keep")
    assert torch.equal(from_numpy(stored(file)["attn.proj.weight"].copy()), product.t())
    assert not any(name.endswith("keep") for name in stored(file))


def test_convolution_weight_is_int8_along_its_outputs(tmp_path: Path) -> None:
    program = build(
        "s: f32[] = constant('s'); ws: f32[8] = constant('w_scale'); w: f32[8, 4, 3, 3] = weight('w'); "
        "x: f32[2, 4, 8, 6] = input(); f = vitgraph.fake_quantize.default(x, s); "
        "g = vitgraph.fake_quantize.default(w, ws, 0); y = aten.conv2d.default(f, g, None, [1, 1], [0, 0], [1, 1], 1)"
    )
    model = lower(program, tmp_path / "m.onnx")
    file = load(tmp_path / "m.onnx")
    assert stored(file)["w"].shape == (8, 4, 3, 3)
    (linear,) = model.linears
    assert (linear.operator, linear.planned, linear.k_axis, linear.weight) == ("Conv", "int8", 1, "w")
    assert [a.i for a in nodes(file)["model/DequantizeLinear_2"].attribute if a.name == "axis"] == [0]
    batch = batch_for(program)
    with Ort().load(tmp_path / "m.onnx") as runner:
        torch.testing.assert_close(runner.run(batch), program.run(batch), rtol=1e-5, atol=1e-5)


def test_a_weight_used_twice_is_stored_in_both_forms(tmp_path: Path) -> None:
    program = build(
        "w: f32[7, 8] = weight('w'); x: i64[2, 3] = input(); e = aten.embedding.default(w, x); y = aten.linear.default(e, w)"
    )
    lower(program, tmp_path / "m.onnx")
    assert {name: array.shape for name, array in stored(load(tmp_path / "m.onnx")).items()} == {
        "w": (7, 8),
        "w_2": (8, 7),
    }
    batch = batch_for(program)
    with Ort().load(tmp_path / "m.onnx") as runner:
        torch.testing.assert_close(runner.run(batch), program.run(batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f64", "i32", "u8", "bool"])
def test_constants_of_every_type_keep_their_bytes(dtype: str, tmp_path: Path) -> None:
    program = build(
        f"c: {dtype}[3, 5] = constant('c'); x: f32[2, 3, 5] = input(); d = aten.to.dtype(x, {dtype}); "
        "y = aten.where.self(c, x, x)"
        if dtype == "bool"
        else f"c: {dtype}[3, 5] = constant('c'); x: f32[2, 3, 5] = input(); y = aten.add.Tensor(x, c)"
    )
    lower(program, tmp_path / "m.onnx")
    (found,) = [each for each in load(tmp_path / "m.onnx").graph.initializer if each.name == "c"]
    assert found.raw_data == bytes(program.tensor("c").view(torch.uint8).numpy().tobytes())


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("external_bytes", [10**9, 1000])
def test_dynamic_batch_runs_at_any_size(batch: int, external_bytes: int, tmp_path: Path) -> None:
    program = block()
    lower(program, tmp_path / "m.onnx", external_bytes=external_bytes)
    assert load(tmp_path / "m.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    x = batch_for(program, batch)
    with Ort().load(tmp_path / "m.onnx") as runner:
        torch.testing.assert_close(runner.run(x), program.run(x), rtol=1e-4, atol=1e-4)


def test_same_program_gives_same_bytes(tmp_path: Path) -> None:
    for name, threshold in (("a", 10**9), ("b", 1000)):
        folders = [tmp_path / f"{name}{number}" for number in range(2)]
        for folder in folders:
            lower(block(), folder / "m.onnx", external_bytes=threshold)
        assert [file.name for file in sorted(folders[0].iterdir())] == [
            file.name for file in sorted(folders[1].iterdir())
        ]
        for file in folders[0].iterdir():
            assert file.read_bytes() == (folders[1] / file.name).read_bytes()


def test_another_weight_gives_other_bytes(tmp_path: Path) -> None:
    first, second = block(), block()
    with torch.no_grad():
        second.tensor("attn.proj.weight")[0, 0] += 1.0
        second.tensor("attn.proj.keep")[0, 0] = first.tensor("attn.proj.keep")[0, 0] = True
    lower(first, tmp_path / "a.onnx")
    lower(second, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() != (tmp_path / "b.onnx").read_bytes()


def test_external_data_holds_the_same_values(tmp_path: Path) -> None:
    inside = lower(block(), tmp_path / "inside" / "m.onnx")
    outside = lower(block(), tmp_path / "outside" / "m.onnx", external_bytes=1000)
    assert [file.name for file in inside.files] == ["m.onnx"]
    assert [file.name for file in outside.files] == ["m.onnx", "m.onnx.data"]
    assert all(file.exists() for file in outside.files)
    assert outside.path.stat().st_size < inside.path.stat().st_size
    one, other = (stored(load(each.path)) for each in (inside, outside))
    assert list(one) == list(other)
    assert all(one[name].dtype == other[name].dtype and (one[name] == other[name]).all() for name in one)
    check_model(outside.path)


def test_stale_external_data_goes(tmp_path: Path) -> None:
    lower(block(), tmp_path / "m.onnx", external_bytes=1000)
    lower(block(), tmp_path / "m.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_nothing_is_left_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vitgraph.backends.onnx.file_writer._write_values", fail)
    for threshold in (10**9, 1000):
        with pytest.raises(KeyboardInterrupt):
            lower(block(), tmp_path / "m.onnx", external_bytes=threshold)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="name another place"):
        lower(block(), tmp_path / "locked" / "m.onnx")


def test_a_file_where_a_folder_should_be_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="name another place"):
        lower(block(), tmp_path / "file" / "m.onnx")


def test_captured_programs_are_refused(tmp_path: Path) -> None:
    program = block()
    program.form = "captured"
    with pytest.raises(InputError, match="run the canonicalize pass"):
        lower(program, tmp_path / "m.onnx")


def test_every_refusal_is_listed_with_its_module(tmp_path: Path) -> None:
    program = parse(
        """
# form: canonical
x: f32[2, 3, 8] = input()
a: f32[2, 3, 8] = aten.special_i0.default(x)  # blocks.0.act
b: f32[2, 3, 8] = aten.roll.default(a, [1], [])  # blocks.1
c: f32[2, 3, 8] = aten.relu.default(b)
return_(c)
"""
    )
    with pytest.raises(InputError) as caught:
        lower(program, tmp_path / "m.onnx")
    first, second = str(caught.value).splitlines()[1:]
    assert "aten.special_i0.default at blocks.0.act" in first
    assert "eager backend" in first
    assert "aten.roll.default at blocks.1" in second
    assert "give its axes" in second
    assert list(tmp_path.iterdir()) == []


def test_unknown_opset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="opset 17"):
        lower(block(), tmp_path / "m.onnx", opset=17)


@pytest.mark.parametrize("returned", ["x", "w", "y, y"])
def test_an_output_may_be_an_input_a_constant_or_repeated(returned: str, tmp_path: Path) -> None:
    program = parse(
        f"""
# form: canonical
x: f32[2, 3] = input()
w: f32[3] = weight("w")
y: f32[2, 3] = aten.add.Tensor(x, w)
return_([{returned}])
"""
    )
    model = lower(program, tmp_path / "m.onnx")
    check_model(model.path)
    batch = batch_for(program)
    with Ort().load(model.path) as runner:
        assert torch.equal(runner.run(batch), program.run(batch)[0])
        assert len(runner.session.get_outputs()) == len(returned.split(","))


_MEASURE = """
import resource, sys
from pathlib import Path
import torch
from tests.conftest import ROOT
from tests.backends.operator_cases import build
from vitgraph.backends.onnx.lowering import lower

side, count = 4096, 8  # 64 MiB each
lines = "; ".join(f"w{n}: f32[{side}, {side}] = weight('w{n}')" for n in range(count))
body = "; ".join(f"y{n + 1} = aten.linear.default(y{n}, w{n})" for n in range(count))
program = build(f"{lines}; y0: f32[1, {side}] = input(); {body}")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
torch.ones(64 << 20).sum()  # 256 MiB: what is measured below is what lowering needs beyond them
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
lower(program, Path(sys.argv[1]), external_bytes=int(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("external_bytes", [10**10, 1000])
def test_lowering_holds_no_second_copy_of_the_weights(external_bytes: int, tmp_path: Path) -> None:
    """512 MiB of weights, each transposed on its way: lowering must do with the 256 MiB that the process had at its peak."""
    command = [sys.executable, "-c", _MEASURE, str(tmp_path / "m.onnx"), str(external_bytes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) > 512 << 20
    assert int(done.stdout) < 128
