"""`benchmarks/quantization.py`: a peer that is absent, fails or loses names keeps its row and says why; the table is one object."""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "quantization.py"
WORDS = [
    "--model",
    "digits-vit",
    "--weights",
    "random",
    "--calibration-data",
    "digits:train",
    "--evaluate-data",
    "digits:test",
]
SMALL = ["--calibration-images", "4", "--evaluate-images", "8"]
ANSWER = {"seconds": 1.5, "cpu_seconds": 1.25, "peak_rss_mb": 7, "settings": {"a": "b"}, "versions": {"peer": "1"}}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark's module, its peers' environments looked for under `tmp_path`."""
    spec = importlib.util.spec_from_file_location("quantization_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ENVIRONMENTS", tmp_path)
    return module


def pretend(tmp_path: Path, name: str, script: str) -> None:
    """An environment whose python is a shell script; it runs where the quantized file belongs."""
    python = tmp_path / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


def shared(bench: ModuleType, tmp_path: Path, plan: Any = None) -> Any:
    return bench.Bench(tmp_path, {"fp32": "fp32.onnx"}, None, None, plan)


def test_an_absent_peer_keeps_its_row_and_says_how_to_install_it(bench: Any, tmp_path: Path) -> None:
    row = bench.measure(shared(bench, tmp_path), "nncf", "mixed")
    assert row.why == "not installed; python benchmarks/peers/environments.py nncf"
    assert (row.top1, row.agreement, row.seconds, row.peak_rss_mb, row.linears_int8) == (None,) * 5
    assert bench.show(row).startswith("nncf mixed")
    assert bench.show(row).endswith(row.why)
    assert bench.show(row).count("–") == 8


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo first >&2; echo 'ValueError: no' >&2; exit 1", "ValueError: no"),
        ("echo said", "said"),
        ("exit 3", "ended with status 3"),
        ("kill -KILL $$", f"ended by signal {int(signal.SIGKILL)}"),
    ],
)
def test_a_failing_peer_keeps_its_row_with_its_last_words(bench: Any, tmp_path: Path, script: str, why: str) -> None:
    pretend(tmp_path, "ort", script)
    row = bench.measure(shared(bench, tmp_path), "ort", "minmax")
    assert (row.why, row.engine_why, row.seconds) == (why, "there is no quantized file", None)


def test_a_peer_that_works_is_timed_by_its_own_answer(bench: Any, tmp_path: Path) -> None:
    pretend(tmp_path, "ort", f"touch model.onnx; echo noise; echo '{json.dumps(ANSWER)}'")
    row = bench.Row("ort", "minmax")
    assert bench.quantize(shared(bench, tmp_path), row, tmp_path / "model.onnx") is None
    assert {name: getattr(row, name) for name in ANSWER} == ANSWER


def test_nodes_that_lost_their_names_are_no_zero(bench: Any, tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    edges = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "fc/Fused")], "g", edges[:1], edges[1:], [weight]
    )
    (tmp_path / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    plan = bench.EnginePlan((bench.PlannedLinear("fc", "fc/MatMul", "int8"),))
    row = bench.Row("ort", "minmax")
    bench.judge_engine(shared(bench, tmp_path, plan), row, tmp_path / "model.onnx")
    assert row.linears_int8 is None
    assert row.engine_why == "1 nodes of the FP32 file are not in the quantized one, fc/MatMul among them"


def test_rows_can_be_asked_for_by_flow_or_by_name(bench: Any) -> None:
    def rows(*words: str) -> Any:
        return bench.chosen(bench.arguments().parse_args(words))

    assert rows("--recipes", "int8,int8-best", "--only", "vitgraph") == [
        ("vitgraph", "int8"),
        ("vitgraph", "int8-best"),
    ]
    assert rows("--only", "ort minmax") == [("ort", "minmax")]
    assert rows("--peers", "") == [("vitgraph", "int8")]
    assert len(rows()) == 7
    for words in (["--peers", "npu"], ["--only", "vitgraf"]):
        with pytest.raises(SystemExit):
            bench.arguments().parse_args(words)


@pytest.mark.slow
def test_one_object_holds_the_table(tmp_path: Path) -> None:
    command = [sys.executable, str(FILE), *WORDS, *SMALL, "--only", "vitgraph"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    answer = json.loads(done.stdout)
    (row,) = answer["rows"]
    assert (row["why"], row["engine_why"]) == (None, None)
    assert row["linears_int8"] == answer["linears"] == 16
    assert row["attentions_int8"] == answer["attentions"] == 4
    assert row["seconds"] > 0
    assert row["peak_rss_mb"] > 100
    assert "vitgraph int8" in done.stderr
