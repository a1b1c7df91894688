"""`vitgraph demo`."""

from pathlib import Path
from typing import Any

import pytest

from tests.tools.conftest import Cli
from vitgraph.tools.demo import ROWS, cell


def test_a_missing_number_shows_its_reason() -> None:
    report: dict[str, Any] = {
        "engine": None,
        "engine_why": "no builder here",
        "accuracy": {"top1": 99.5, "images": 1500},
    }
    assert cell(report, "accuracy", "top1") == "99.50"
    assert cell(report, "accuracy", "images") == "1,500"
    assert cell(report, "engine", "gemm", "int8") == "no builder here"
    assert cell(report, "cost", "weight_bytes", "stored") == "unknown"


@pytest.mark.slow
def test_ends_with_the_table(cli: Cli) -> None:
    ran = cli("demo", "-o", "kept")
    assert ran.status == 0, ran.err
    assert all(label.strip() in ran.out for label, *_ in ROWS)
    assert Path("kept/sparse-int8/engine.plan").is_file()
    assert cli("demo", "-o", "kept").status == 2, "what is there is not overwritten"
    found = cli("demo", "-o", "kept", "--force", "--json").json
    fp32, sparse = found["FP32"], found["sparse-int8"]
    assert sparse["engine"]["gemm"]["int8"] == 16
    assert sparse["engine"]["attention"]["fused_int8"] == 4
    assert sparse["engine"]["sparse"]["masked"] == 16
    assert sparse["accuracy"]["top1"] >= 98 <= fp32["accuracy"]["top1"]
    assert sparse["cost"]["weight_bytes"]["unpacked"] < 0.3 * fp32["cost"]["weight_bytes"]["unpacked"]
    assert sparse["cost"]["weight_bytes"]["stored"] < 0.75 * sparse["cost"]["weight_bytes"]["unpacked"]
