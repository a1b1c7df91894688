"""INT4 and FP8 the whole way with the real builder: recipe to engine, accuracy of the file, and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tools.conftest import Cli, cli
from vitgraph.backends.tensorrt.backend import unbuildable_why
from vitgraph.targets.target import get_target

assert cli  # the fixture

WORDS = ["--calibration-data", "digits:train", "--calibration-images", "16"]
EVALUATED = [*WORDS, "--evaluate-data", "digits:test", "--evaluate-images", "100", "--batch", "1:8:64", "--json"]
needs_builder = pytest.mark.skipif(unbuildable_why(get_target("a100")) is not None, reason="no TensorRT builder here")

GROUPS = (
    "canonicalize,fold-constants,fuse-attention,fold-constants,"
    "quantize{weights=mse weight_format=int4 activation_format=float group=64},assign-precision,materialize,legalize"
)
LOST = -1.0
"""Points of top-1 that 100 digits may lose."""


@needs_builder
@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "words", "linears", "attention", "ratio"),
    [
        (
            "rtx-ada",
            ["--recipe", "fp8"],
            {"planned_int8": 0, "int8": 0, "planned_fp8": 16, "fp8": 16, "fallback": []},
            {"sites": 4, "fused": 4, "fused_int8": 0, "fused_fp8": 4},
            3.5,
        ),
        (
            "a100",
            ["--recipe", "w4a8"],
            {"planned_int8": 16, "int8": 16, "fallback": []},
            {"sites": 4, "fused": 4, "fused_int8": 4},
            6.0,
        ),
        (
            "a100",
            ["--recipe", "w4a8", "--pipeline", GROUPS],
            {"planned_int8": 0, "int8": 0, "fallback": []},
            {"sites": 4, "fused": 4, "fused_int8": 0},
            6.0,
        ),
    ],
    ids=["fp8", "w4a8", "w4-groups"],
)
def test_from_the_recipe_to_the_engine(
    cli: Cli, target: str, words: list[str], linears: Any, attention: Any, ratio: float
) -> None:
    ran = cli("compile", "digits-vit", "--target", target, *words, *EVALUATED, "-o", "out")
    assert ran.status == 0, ran.err
    report = ran.json
    assert report["violations"] == []
    assert report["engine"]["linears"] == linears
    assert report["engine"]["attention"] == attention
    accuracy = report["accuracy"]
    assert accuracy["measured_on"] == "ort model.onnx"
    assert accuracy["top1"] - accuracy["top1_reference"] >= LOST
    assert report["cost"]["weight_bytes"]["ratio"] > ratio
    assert Path("out/model.onnx").stat().st_size < 1.5 * report["cost"]["weight_bytes"]["stored"]
    assert "in FP8" in Path("out/report.html").read_text() or target != "rtx-ada"


@pytest.mark.parametrize(
    ("target", "recipe", "why"),
    [
        ("a100", "fp8", "a100 has no product of fp8 weights with fp8 activations"),
        ("orin-agx", "fp8", "8.7 has no FP8"),
        ("a100", "w4a4", "a100 has no product of int4 weights with int4 activations"),
        ("rtx-turing", "w4a8", "rtx-turing has no product of int4 weights with int8 activations"),
    ],
)
def test_a_target_that_lacks_the_format_is_told_before_any_work(cli: Cli, target: str, recipe: str, why: str) -> None:
    ran = cli("compile", "digits-vit", "--target", target, "--recipe", recipe, *WORDS, "-o", "out")
    assert ran.status == 2
    assert why in ran.err
    assert "or a target that has it (" in ran.err
    assert "cpu" in ran.err.rpartition("(")[2]
    assert not Path("out").exists()


@pytest.mark.slow
def test_fp8_stops_at_onnx_where_the_device_builds_its_own_engine(cli: Cli) -> None:
    ran = cli("compile", "digits-vit", "--target", "h200", "--recipe", "fp8", *WORDS, "-o", "out", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["engine"] is None
    graph = Path("out/program/graph.txt").read_text()
    assert graph.count("'fp8'") == 16 * 2 + 4 * 2  # inputs and weights; QKV outputs and probabilities
    assert json.loads(Path("out/report.json").read_text())["cost"]["weight_bytes"]["ratio"] > 3.5
