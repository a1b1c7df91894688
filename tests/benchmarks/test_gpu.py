"""`benchmarks/gpu.py` without a GPU: it says so; a dry run goes through all of it; a wrong kernel is told."""

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.backends.cuda.lowered_models import digits_images, lowered_digits, twin_of

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(FILE), *words], check=False, capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path))
    assert done.returncode == 2
    assert "no CUDA device is here; --dry-run shows that the script runs" in done.stderr


@pytest.mark.slow
def test_a_dry_run_does_all_of_it(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path), "--dry-run", "--models", "test_vit", "no_such_model")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert "no GPU" in found["machine"]
    assert [row["batch"] for row in found["rows"]] == [1, 2]
    assert all(row[key]["least"] <= row[key]["ms"] for row in found["rows"] for key in ("fp16", "int8", "sparse-int8"))
    assert set(found["steps"]) == {"test_vit, int8", "test_vit, sparse-int8"}
    assert list(found["failures"]) == ["no_such_model"]


def test_a_wrong_kernel_is_told() -> None:
    spec = spec_from_file_location("gpu_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    benchmark: Any = module_from_spec(spec)
    sys.modules[spec.name] = benchmark  # where dataclasses look
    spec.loader.exec_module(benchmark)
    lowered, images = lowered_digits("int8"), digits_images(2)
    right, wrong = twin_of(lowered), twin_of(lowered)
    attention = wrong.kernels["attention"]

    def two_more(**given: Any) -> torch.Tensor:
        codes: torch.Tensor = attention(**given)
        return (codes.int() + 2).clamp(max=127).to(torch.int8)

    wrong.kernels = {**wrong.kernels, "attention": two_more}
    found = benchmark.compared(right, lowered, images), benchmark.compared(wrong, lowered, images)
    assert found[0]["attention"] == {"codes_differ": 0, "codes_apart": 0}
    assert found[1]["attention"]["codes_apart"] == 2
    assert {name for name in found[1] if found[1][name] != found[0][name]} == {"attention"}
