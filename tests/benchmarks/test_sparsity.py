"""`benchmarks/sparsity.py`: every row of both tables, and a reason where a row can't be had."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "sparsity.py"
SMALL = [
    "--model", "digits-vit", "--weights", "pretrained", "--calibration-data", "digits:train", "--calibration-images", "16",
    "--evaluate-data", "digits:test", "--evaluate-images", "16",
]  # fmt: skip


def answer(*words: str) -> Any:
    done = subprocess.run([sys.executable, str(FILE), *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_without_data_it_says_why() -> None:
    found = answer("--weights", "nowhere.safetensors")
    assert found["rows"] is None
    assert "nowhere.safetensors" in found["why"]


@pytest.mark.slow
def test_every_row() -> None:
    table = answer(*SMALL)
    rows = table["rows"]
    assert len(rows) == 2 * 5 * 2 + 1
    for row in rows[:-1]:
        assert row["masked"] == (16 if row["linears"] == "all block linears" else 8), row
        assert 0 <= row["agreement"] <= 100
        assert row["divergence"] >= 0
        assert 0 <= row["top1"] <= 100
    assert "why" in rows[-1], "no timm model: the peer has no row"
    assert len({row["pipeline"] for row in rows[:-1]}) == 20
