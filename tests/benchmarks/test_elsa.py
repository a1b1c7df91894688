"""`benchmarks/elsa.py`: every choice is compared with the same weights as ELSA's, within the budget, image by image."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "elsa.py"
DIGITS = (
    "--model", "digits-vit", "--weights", "pretrained", "--train-data", "digits:train", "--evaluate-data", "digits:test",
    "--train-images", "200", "--held-out", "40", "--rounds", "2", "--judged", "2", "--population", "4", "--generations", "2",
    "--budget", "2.4x", "--alone", "64",
)  # fmt: skip


def answer(*words: str, **environment: str) -> Any:
    command = [sys.executable, str(BENCHMARK), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return json.loads(done.stdout)


def test_without_data_it_says_why(tmp_path: Path) -> None:
    found = answer(VITGRAPH_DATA=str(tmp_path))
    assert found["rows"] is None
    assert "test5000.zip: not there" in found["why"]


@pytest.mark.slow
def test_rows() -> None:
    found = answer(*DIGITS)
    rows = {(row["weights"], row["name"]): row for row in found["rows"]}
    everything = ["ELSA", "ERK", "uniform", "uniform N:8", "5 at random"]
    assert list(rows) == [
        *(("supernet", name) for name in everything),
        *(("as it came", name) for name in everything),
        ("alone, 64", "ELSA"),
        ("alone, 64", "ERK"),
        ("alone, 64", "uniform N:8"),
    ]
    assert rows["supernet", "uniform N:8"]["levels"] == ["2:8"]
    assert rows["supernet", "uniform"]["levels"] == ["1:4"]
    assert all(row["mflops"] <= 8.031 / 2.4 for row in rows.values())
    for (weights, _), row in rows.items():
        elsa = rows[weights, "ELSA"]
        assert row.get("ahead", 0) == pytest.approx(elsa["top1"] - row["top1"], abs=0.011)
        assert row.get("nearer", 0) == pytest.approx(row["divergence"] - elsa["divergence"], abs=2e-4)
        assert row.get("ahead_standard_error", 0) >= 0
    assert found["as_it_came"] == {"top1": 99.2, "divergence": 0.0}
    uniform = [rows[weights, "uniform"]["divergence"] for weights in ("supernet", "as it came")]
    assert uniform[0] < uniform[1]  # training is what is between them
