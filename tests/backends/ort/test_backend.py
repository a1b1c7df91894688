"""ONNX Runtime: the numbers of INT8 graphs, and what it says of files it can't run."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.backends.operator_cases import CASES, batch_for, build
from vitgraph.backends.eager import Eager
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.ort.backend import Ort, OrtRunner
from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.pass_manager.numerics import measure

INT8_LINEAR = (
    "s: f32[] = constant('s'); w: f32[32, 512] = weight('w'); ws: f32[32] = constant('w_scale'); b: f32[32] = weight('b'); "
    "x: f32[4, 7, 512] = input(); f = vitgraph.fake_quantize.default(x, s); g = vitgraph.fake_quantize.default(w, ws, 0); "
    "y = aten.linear.default(f, g, b)"
)
INT4_MLP = (
    "s: f32[] = constant('s'); t: f32[] = constant('t'); x: f32[2, 5, 16] = input(); f = vitgraph.fake_quantize.default(x, s); "
    "w: f32[32, 16] = weight('w'); ws: f32[32] = constant('ws'); a = vitgraph.fake_quantize.default(w, ws, 0, 'int4'); "
    "h = aten.linear.default(f, a, None); g = aten.gelu.default(h); q = vitgraph.fake_quantize.default(g, t); "
    "v: f32[16, 32] = weight('v'); vs: f32[16] = constant('vs'); b = vitgraph.fake_quantize.default(v, vs, 0, 'int4'); "
    "c: f32[16] = weight('c'); y = aten.linear.default(q, b, c)"
)
INT8_ATTENTION = (
    "s: f32[] = constant('s'); ps: f32[] = constant('scale'); b: f32[3, 50, 50] = weight('b'); "
    "x: f32[2, 3, 50, 32] = input(); f = vitgraph.fake_quantize.default(x, s); "
    "y = vitgraph.attention.default(f, f, f, b, 0.17, ps)"
)


def int8_linear() -> Program:
    program = build(INT8_LINEAR)
    program.tensor("s").fill_(0.02)
    program.tensor("w_scale").copy_(program.tensor("w").detach().abs().amax(1) / 127)
    return program


def relative_l2(program: Program, batch: torch.Tensor) -> float:
    with Ort().load(program, threads=1) as runner:
        found = runner.run(batch)
    return measure(program.run(batch), found).relative_l2


@pytest.mark.parametrize("size", [1.0, 3.0, 100.0])
def test_int8_linear_is_eager_up_to_the_order_of_sums(size: float) -> None:
    program = int8_linear()
    assert relative_l2(program, batch_for(program) * size) < 1e-6


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_int8_linear_does_not_saturate(sign: float) -> None:
    """All operands at the ends of the grid, where 16-bit partial sums would overflow."""
    program = int8_linear()
    with torch.no_grad():
        program.tensor("w").fill_(10.0 * sign)
    assert relative_l2(program, torch.full((4, 7, 512), 10.0)) < 1e-5


@pytest.mark.parametrize("size", [1.0, 3.0, 10.0])
def test_int8_attention_is_eager_but_for_ties(size: float) -> None:
    """A probability within rounding of half a step may fall on its other side: at most one output in a thousand moves
    by more than rounding, and by no more than two steps' worth of the largest value."""
    program = build(INT8_ATTENTION)
    program.tensor("s").fill_(0.03)
    program.tensor("scale").fill_(1 / 127)
    batch = batch_for(program) * size
    with Ort().load(program, threads=1) as runner:
        moved = (runner.run(batch) - program.run(batch)).abs()
    assert float((moved > 1e-5).double().mean()) <= 1e-3
    assert float(moved.max()) <= 2 * 128 * 0.03 / 127


def test_wrong_scale_is_noticed() -> None:
    program, other = int8_linear(), int8_linear()
    other.tensor("s").fill_(0.021)
    batch = batch_for(program)
    with Ort().load(other) as runner:
        found = runner.run(batch)
    wanted = Eager().load(program).run(batch)
    assert measure(wanted, found).relative_l2 > 1e-3


def test_runs_a_file_and_says_its_batch_size(tmp_path: Path) -> None:
    static, dynamic = build(CASES["linear"]), build(CASES["sizes"])
    lower(static, tmp_path / "static.onnx")
    lower(dynamic, tmp_path / "dynamic.onnx")
    with Ort().load(tmp_path / "static.onnx") as runner:
        assert runner.batch_size == 2
        batch = batch_for(static)
        torch.testing.assert_close(runner.run(batch), static.run(batch), rtol=1e-5, atol=1e-6)
    with Ort().load(tmp_path / "dynamic.onnx") as runner:
        assert runner.batch_size is None


def test_half_precision_runs() -> None:
    program = build(
        "w: f16[16, 8] = weight('w'); x: f32[2, 5, 8] = input(); h = aten.to.dtype(x, f16); l = aten.linear.default(h, w); "
        "y = aten.to.dtype(l, f32)"
    )
    batch = batch_for(program)
    with Ort().load(program) as runner:
        torch.testing.assert_close(runner.run(batch), program.run(batch), rtol=2e-3, atol=2e-3)


def test_threads_reach_the_session() -> None:
    with Ort().load(build(CASES["relu"]), threads=1) as runner:
        assert runner.session.get_session_options().intra_op_num_threads == 1


def test_bfloat16_is_refused_with_a_remedy() -> None:
    program = build(
        "w: bf16[4, 4, 3, 3] = weight('w'); x: f32[2, 4, 8, 6] = input(); h = aten.to.dtype(x, bf16); "
        "c = aten.conv2d.default(h, w, None, [1, 1], [0, 0], [1, 1], 1); y = aten.to.dtype(c, f32)"
    )
    with pytest.raises(InputError, match="measure the FP16 or FP32 form"):
        Ort().load(program)


def _missing(folder: Path) -> Path:
    return folder / "nothing.onnx"


def _garbage(folder: Path) -> Path:
    (folder / "garbage.onnx").write_bytes(b"\x00garbage" * 20)
    return folder / "garbage.onnx"


def _cut_short(folder: Path) -> Path:
    lower(build(CASES["linear"]), folder / "whole.onnx")
    data = (folder / "whole.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(data[: len(data) // 2])
    return folder / "cut.onnx"


@pytest.mark.parametrize("make", [_missing, _garbage, _cut_short])
def test_bad_files_are_input_errors(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(InputError, match=path.name):
        Ort().load(path)


def test_another_provider_is_an_input_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Elsewhere:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            pass

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider"]

    lower(build(CASES["relu"]), tmp_path / "m.onnx")
    monkeypatch.setattr("onnxruntime.InferenceSession", Elsewhere)
    with pytest.raises(InputError, match="CUDAExecutionProvider"):
        Ort().load(tmp_path / "m.onnx")


def test_temporary_files_go_when_the_runner_closes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Ort().load(build(CASES["relu"])):
        assert len(list(tmp_path.glob("*/model.onnx"))) == 1
    assert list(tmp_path.iterdir()) == []


def test_runner_names_the_model_in_its_violation() -> None:
    place = SimpleNamespace(name="x", shape=[2, 3], type="tensor(float)")
    session = SimpleNamespace(get_inputs=lambda: [place], get_outputs=lambda: [place])
    with pytest.raises(InputError, match="tiny: takes"):
        OrtRunner(session, "tiny").run(torch.zeros(1))


def test_a_factor_that_two_products_read_is_kept() -> None:
    """ONNX Runtime's MatMulScaleFusion made an invalid graph of it."""
    program = build(
        "x: f32[2, 4, 4] = input(); q = aten.mul.Tensor(x, 0.3); a = vitgraph.attention.default(q, x, q, None, 0.5); "
        "y = aten.relu.default(a)"
    )
    assert relative_l2(program, batch_for(program, 2)) < 1e-5


def test_int4_weights_beside_int8_run_with_the_option_that_the_page_names(tmp_path: Path) -> None:
    """docs/quantization.md names `session.disable_quant_qdq`; where the plain session runs it too, the page is out of date."""
    runtime: Any = import_module("onnxruntime")
    program = build(INT4_MLP)
    assert relative_l2(program, batch_for(program, 2)) < 1e-5
    lower(program, tmp_path / "m.onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    with pytest.raises(Exception, match="output_dtype INT8 does not match"):
        runtime.InferenceSession(str(tmp_path / "m.onnx"), options, providers=["CPUExecutionProvider"])
