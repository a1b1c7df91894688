"""OpenVINO: INT8 kernels, the types it says it computed in, its known fault, and what it says of files it can't run."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.backends.operator_cases import CASES, batch_for, build
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.openvino import backend as openvino_backend
from vitgraph.backends.openvino import runner as openvino_runner
from vitgraph.backends.openvino.backend import OpenVino
from vitgraph.backends.openvino.execution import RuntimeKernel
from vitgraph.backends.openvino.saturation import saturates
from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.pass_manager.numerics import measure

pytestmark = pytest.mark.skipif(OpenVino().refusal(None) is not None, reason=str(OpenVino().refusal(None)))
exact_int8 = pytest.mark.skipif(saturates(), reason="this CPU has no VNNI: OpenVINO's INT8 products overflow")

INT8_MLP = (
    "s: f32[] = constant('s'); w: f32[256, 128] = weight('w'); ws: f32[256] = constant('w_scale'); b: f32[256] = weight('b'); "
    "h: f32[64, 256] = weight('h'); c: f32[64] = weight('c'); x: f32[N, 16, 128] = input(); "
    "f = vitgraph.fake_quantize.default(x, s); g = vitgraph.fake_quantize.default(w, ws, 0); "
    "y = aten.linear.default(f, g, b)  # fc1; z = aten.gelu.default(y); o = aten.linear.default(z, h, c)  # head"
)
ATTENTION = (
    "s: f32[] = constant('s'); ps: f32[] = constant('scale'); x: f32[N, {tokens}, 96] = input(); "
    "f = vitgraph.fake_quantize.default(x, s); r = aten.reshape.default(f, [-1, {tokens}, 3, 2, 16]); "
    "p = aten.permute.default(r, [2, 0, 3, 1, 4]); q = aten.select.int(p, 0, 0); k = aten.select.int(p, 0, 1); "
    "v = aten.select.int(p, 0, 2); a = vitgraph.attention.default(q, k, v, None, 0.25, ps)  # attn; "
    "t = aten.permute.default(a, [0, 2, 1, 3]); y = aten.reshape.default(t, [-1, {tokens}, 32])"
)

SQUARE = (
    "w: f32[48, 16] = weight('w'); x: f32[N, 2, 16] = input(); l = aten.linear.default(x, w); "
    "r = aten.reshape.default(l, [-1, 2, 3, 2, 8]); p = aten.permute.default(r, [2, 0, 3, 1, 4]); "
    "q = aten.select.int(p, 0, 0); k = aten.select.int(p, 0, 1); v = aten.select.int(p, 0, 2); "
    "a = vitgraph.attention.default(q, k, v, None, 0.3); t = aten.permute.default(a, [0, 2, 1, 3]); "
    "y = aten.reshape.default(t, [-1, 2, 16])"
)
"""Two heads, two tokens."""


def int8_mlp() -> Program:
    program = build(INT8_MLP)
    program.tensor("s").fill_(0.03)
    program.tensor("w_scale").copy_(program.tensor("w").detach().abs().amax(1) / 127)
    return program


def int8_attention(tokens: int) -> Program:
    program = build(ATTENTION.format(tokens=tokens))
    program.tensor("s").fill_(0.03)
    program.tensor("scale").fill_(1 / 127)
    return program


@exact_int8
def test_int8_linears_run_in_int8_kernels_and_others_in_the_type_of_the_graph() -> None:
    program = int8_mlp()
    with OpenVino().load(program) as runner:
        batch = batch_for(program, 4)
        assert measure(program.run(batch), runner.run(batch)).relative_l2 < 1e-5
        found = runner.execution(4)
    assert dict(found.linears) == {"fc1": "int8", "head": "fp32"}
    assert found.summary() == "1 of 2 linears in int8, 1 in fp32"
    assert found.settings["inference_precision_hint"] == "f32"


def test_a_graph_with_short_types_may_run_in_those_of_the_processor() -> None:
    program = build(
        "w: f16[16, 8] = weight('w'); x: f32[2, 5, 8] = input(); h = aten.to.dtype(x, f16); l = aten.linear.default(h, w); "
        "y = aten.to.dtype(l, f32)"
    )
    batch = batch_for(program)
    with OpenVino().load(program) as runner, OpenVino(precision="f32").load(program) as exact:
        torch.testing.assert_close(runner.run(batch), program.run(batch), rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(exact.run(batch), program.run(batch), rtol=2e-3, atol=2e-3)
        assert exact.execution(2).settings["inference_precision_hint"] == "f32"


@exact_int8
@pytest.mark.parametrize("tokens", [2, 16, 50])
def test_int8_attention_is_eager_but_for_ties(tokens: int) -> None:
    program = int8_attention(tokens)
    batch = batch_for(program, 3)
    with OpenVino().load(program) as runner:
        moved = (runner.run(batch) - program.run(batch)).abs()
        executed = runner.execution(3)
    assert float((moved > 1e-4).double().mean()) <= 0.01
    assert float(moved.max()) <= 2 * 128 * 0.03 / 127
    assert list(executed.attentions) == ["attn"]
    assert tokens == 2 or executed.attentions["attn"] == "int8"


def test_as_many_heads_as_tokens_would_be_wrong_if_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a later OpenVINO computes it right, this fails: then `_UNFUSED` can go."""
    program = build(SQUARE)
    batch = batch_for(program, 3)
    with OpenVino().load(program) as runner:
        assert measure(program.run(batch), runner.run(batch)).relative_l2 < 1e-5
    monkeypatch.setattr(openvino_runner, "_UNFUSED", {})
    with OpenVino().load(program) as runner:
        assert measure(program.run(batch), runner.run(batch)).relative_l2 > 0.01


def test_an_attention_that_is_read_twice_does_not_end_the_process() -> None:
    program = build(
        "x: f32[1, 2, 6, 8] = input(); t = aten.tanh.default(x); a = vitgraph.attention.default(t, t, t, None, 0.3); "
        "s = aten.sin.default(a); r = aten.add.Tensor(a, t); y = aten.cat.default([s, r], 0)"
    )
    batch = batch_for(program)
    with OpenVino().load(program) as runner:
        torch.testing.assert_close(runner.run(batch), program.run(batch), rtol=1e-5, atol=1e-5)


def test_each_batch_size_has_kernels_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    program = int8_mlp()
    with OpenVino().load(program, threads=1) as runner:
        for size in (3, 1, 3):
            runner.run(batch_for(program, size))
        assert runner.execution(3).settings["inference_num_threads"] == "1"
        assert sorted(runner._requests) == [1, 3]  # pyright: ignore[reportPrivateUsage]


@exact_int8
def test_runs_a_file_and_does_not_need_it_any_longer(tmp_path: Path) -> None:
    program = int8_mlp()
    model = lower(program, tmp_path / "m.onnx", external_bytes=0)
    batch = batch_for(program, 2)
    with OpenVino().load(model.path) as runner:
        for file in model.files:
            file.unlink()
        torch.testing.assert_close(runner.run(batch), program.run(batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("primitive", "precision", "computes"),
    [
        ("brgemm_avx512_i8", "i8", "int8"),
        ("jit_gemm_I8", "u8", "int8"),
        ("brgemm_avx512_bf16", "bf16", "bf16"),
        ("brgemm_avx512_bf16", "i4", "bf16"),
        ("gemm_mlas_f32", "f32", "fp32"),
        ("undef", "dynamic", "unknown"),
    ],
)
def test_a_kernel_computes_in_what_its_implementation_says(primitive: str, precision: str, computes: str) -> None:
    assert RuntimeKernel("FullyConnected", precision, primitive, frozenset()).computes == computes


def test_importing_it_tells_nobody(tmp_path: Path) -> None:
    """OpenVINO's telemetry writes an identifier to the home folder before it sends anything."""
    load = (
        "from vitgraph.backends.openvino.backend import OpenVino; from tests.backends.operator_cases import CASES, build; "
        "OpenVino().load(build(CASES['relu'])).close()"
    )
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", load], check=True, cwd=root, env=environment)
    assert [file for file in tmp_path.rglob("*") if "intel" in str(file).lower() or "openvino" in str(file)] == []


def test_without_the_package_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r"pip install 'vitgraph\[openvino\]'"):
        OpenVino().load(build(CASES["relu"]))


def _missing(folder: Path) -> Path:
    return folder / "nothing.onnx"


def _garbage(folder: Path) -> Path:
    (folder / "garbage.onnx").write_bytes(b"\x00garbage" * 20)
    return folder / "garbage.onnx"


def _cut_short(folder: Path) -> Path:
    data = lower(build(CASES["linear"]), folder / "whole.onnx").path.read_bytes()
    (folder / "cut.onnx").write_bytes(data[: len(data) // 2])
    return folder / "cut.onnx"


@pytest.mark.parametrize("make", [_missing, _garbage, _cut_short])
def test_bad_files_are_input_errors(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(InputError, match=path.name):
        OpenVino().load(path)


@pytest.mark.parametrize("overflow", [True, False])
def test_overflowing_int8_products_are_told(
    overflow: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openvino_backend, "saturates", lambda: overflow)
    for program, told in ((int8_mlp(), overflow), (build(CASES["linear"]), False)):
        caplog.clear()
        with OpenVino().load(program):
            assert ("this CPU has no VNNI" in caplog.text) == told
