"""`benchmarks/cpu_latency.py`: every row in turns, and a reason where a row can't be had."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "cpu_latency.py"
SMALL = ("--models", "digits-vit", "--calibration-data", "digits:train", "--calibration-images", "16", "--rounds", "2")


def answer(*words: str) -> Any:
    done = subprocess.run([sys.executable, str(FILE), *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_without_data_it_says_why() -> None:
    found = answer(*SMALL, "--calibration-data", "nowhere.zip")
    assert found["rows"] is None
    assert "nowhere.zip" in found["why"]


@pytest.mark.slow
def test_every_row(tmp_path: Path) -> None:
    found = answer(*SMALL, "--batch", "1,4", "--threads", "1", "--cpu-time", "--keep", str(tmp_path))
    rows = found["rows"]
    assert [row["batch"] for row in rows] == [1] * 7 + [4] * 7
    assert [row["ratio"] for row in rows[::7]] == [1, 1]
    for row in rows:
        assert row["ratio"] is None or row["min_ms"] <= row["median_ms"]
        assert row["ratio"] is not None or "environments.py nncf" in row["why"]
    (ours,) = {row["executed"] for row in rows if row["row"] == "vitgraph INT8, OpenVINO"}
    assert "16 of 18 linears in int8" in ours
    again = answer(*SMALL, "--batch", "1", "--keep", str(tmp_path), "--calibration-data", "nowhere.zip")
    assert len(again["rows"]) == 7, "the models are taken from the folder"
