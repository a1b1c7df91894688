"""`--backend cuda` on a machine without a GPU: the plan is there, `inspect` tells its sites, and what would run it is refused."""

import json
from pathlib import Path

import pytest
import torch

from tests.tools.conftest import Cli
from vitgraph.backends.cuda.twin import Twin

STEPS = "canonicalize,fold-constants,fuse-layer-norm,fuse-attention,fold-constants,nm-mask,quantize{outputs=true},assign-precision,materialize,legalize"
COMPILE = (
    *("compile", "digits-vit", "--recipe", "sparse-int8", "--pipeline", STEPS, "--batch", "1:8:16"),
    *("--calibration-data", "digits:train", "--calibration-images", "8", "--backend", "cuda"),
)

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


def on_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--backend cuda` runs plans by the references on the CPU."""
    monkeypatch.setattr("vitgraph.backends.cuda.backend.refusal_here", lambda: None)
    monkeypatch.setattr("vitgraph.backends.cuda.device.Device", Twin)


def test_the_plan_is_left_and_inspect_tells_its_sites(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = cli(*COMPILE, "--target", "h200", "--evaluate-data", "digits:test", "--evaluate-images", "8", "-o", "o")
    assert ran.status == 0, ran.err
    assert "16 int8 2:4 by cuSPARSELt, Triton" in ran.out
    for name in ("model.onnx", "program/program.safetensors", "cuda/plan.json", "cuda/weights.safetensors"):
        assert Path("o", name).stat().st_size > 0
    report = json.loads(Path("o/report.json").read_text())
    assert report["accuracy"]["measured_on"] == "ort model.onnx"
    assert report["latency"] is None
    lines = cli("inspect", "o").out.splitlines()
    (heads,) = (line.split() for line in lines if line.startswith("site "))
    assert heads == ["site", "format", "kernel", "epilogue", "estimated", "us", "measured", "us", "why"]
    (row,) = (line for line in lines if line.startswith("blocks.0.mlp.fc1 "))
    assert "int8 2:4" in row
    assert "bias, gelu, quantize" in row
    assert row.split()[-1] == "–", "nothing was measured"
    assert sum(line.startswith(("blocks.", "patch_embed.", "head ")) for line in lines) == 22
    page = Path("o/report.html").read_text()
    assert "blocks.3.mlp.fc2" in page
    for command in ("evaluate", "bench"):
        words = ("--data", "digits:test", "--images", "8") if command == "evaluate" else ()
        refused = cli(command, "o", *words, "--backend", "cuda")
        assert refused.status == 2
        assert "no CUDA device is here" in " ".join(refused.err.split())
        assert "Traceback" not in refused.err
    on_the_twin(monkeypatch)
    judged = cli("evaluate", "o", "--data", "digits:test", "--images", "8", "--backend", "cuda", "--json")
    assert judged.status == 0, judged.err
    assert judged.json["measured_on"] == "cuda cuda"
    assert judged.json["top1"] == report["accuracy"]["top1"]
    assert judged.json["execution"]["settings"]["2:4"] == "16 of 18 linears"
    report["engine"]["sites"][0]["estimated_us"] = "fast"
    Path("o/report.json").write_text(json.dumps(report))
    edited = cli("inspect", "o")
    assert edited.status == 2
    assert "is no vitgraph report" in " ".join(edited.err.split())


@pytest.mark.slow
def test_the_same_compilation_leaves_the_same_plan(cli: Cli) -> None:
    for name in ("a", "b"):
        assert cli(*COMPILE, "--target", "a100", "-o", name).status == 0
    for name in ("plan.json", "weights.safetensors"):
        assert Path("a/cuda", name).read_bytes() == Path("b/cuda", name).read_bytes()


@pytest.mark.parametrize(("target", "says"), [("cpu", "is no NVIDIA GPU"), ("rtx-turing", "need sm_80")])
def test_targets_without_these_kernels_are_refused_before_any_work(cli: Cli, target: str, says: str) -> None:
    ran = cli(*COMPILE, "--target", target, "-o", "o")
    assert ran.status == 2
    assert says in " ".join(ran.err.split())
    assert not Path("o").exists()
