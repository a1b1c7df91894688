"""`benchmarks/vit_tiny_sparse.py`: 20 steps of each stage on a CPU, from real weights to an engine that is checked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "vit_tiny_sparse.py"


@pytest.mark.slow
def test_twenty_steps_of_each_stage(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(FILE), "--data", str(data), "--out", str(tmp_path), "--images", "160", "--workers", "0"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [stage["name"] for stage in found["stages"]] == ["sparse", "quantized"]
    assert [stage["looks"][-1]["step"] for stage in found["stages"]] == [20, 20]
    assert found["onnx"]["images"] == 50
    assert found["engine"]["linears"]["planned_int8"] == 48
    log = (tmp_path / "log.txt").read_text()
    assert "$ vitgraph train" in log
    assert "stage quantized: 20 of 20" in log
    subprocess.run(command, capture_output=True, check=True)  # nothing is done twice
    assert (tmp_path / "log.txt").read_text() == log
