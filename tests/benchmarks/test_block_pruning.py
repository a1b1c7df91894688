"""`benchmarks/block_pruning.py`: rows go into a file and are not measured twice; the plot has the same bytes from the same rows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
METHODS = ["magnitude, uniform", "fisher", "units, refitted"]


def answer(*words: str | Path, **environment: str) -> Any:
    command = [sys.executable, str(BENCHMARKS / "block_pruning.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return json.loads(done.stdout)


def test_without_data_it_says_why(tmp_path: Path) -> None:
    found = answer("--case", "vit-tiny", VITGRAPH_DATA=str(tmp_path))
    assert found["rows"] is None
    assert "calibration500.zip: not there" in found["why"]


@pytest.mark.slow
def test_rows_and_their_plot(tmp_path: Path) -> None:
    results, plot = tmp_path / "rows.json", tmp_path / "plot.svg"
    words: tuple[str | Path, ...] = ("--case", "digits", "--results", results, "--plot", plot, "--methods", *METHODS)
    first = answer(*words, "--budgets", "0.8")
    rows = first["digits"]["rows"]
    assert [row["method"] for row in rows] == METHODS
    for row in rows:
        assert 0.78 < row["left"] <= 0.8
        assert 0 <= row["top1"] <= 100
    assert {"parameters", "macs", "onnx_bytes", "cpu_time"} <= rows[-1].keys()
    assert max(rows[-1]["parameters"], rows[-1]["macs"], rows[-1]["onnx_bytes"]) < 0.85
    drawn = plot.read_bytes()
    assert answer(*words, "--budgets", "0.8", "0.9")["digits"]["rows"][:3] == rows
    assert plot.read_bytes() != drawn
    assert json.loads(results.read_text())["digits"]["rows"][:3] == rows


def test_the_plot_is_that_of_the_rows() -> None:
    """The committed picture has a title for each case of the committed rows."""
    rows = json.loads((BENCHMARKS / "block_pruning.json").read_text())
    drawn = (BENCHMARKS / "block_pruning.svg").read_text()
    for case in rows.values():
        assert case["title"] in drawn
