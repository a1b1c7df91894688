"""`vitgraph compile` and what reads its folder: `inspect`, `evaluate`, `bench`."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.compile.test_report import CONTENT
from tests.tools.conftest import Cli
from vitgraph.compile.report import Report
from vitgraph.errors import CheckFailed, InputError
from vitgraph.targets.target import get_target
from vitgraph.tools.compile_model import summary

DIGITS = (
    "compile",
    "digits-vit",
    "--target",
    "a100",
    "--calibration-data",
    "digits:train",
    "--calibration-images",
    "8",
)
FILES = {
    "report.json",
    "report.html",
    "recipe.yaml",
    "pipeline.txt",
    "program",
    "model.onnx",
    "engine.plan",
    "engine.json",
    "build.log",
    "manifest.json",
}


@pytest.mark.slow
def test_compiles_and_every_reader_understands_it(cli: Cli) -> None:
    ran = cli(
        *DIGITS, "--recipe", "int8", "--evaluate-data", "digits:test", "--evaluate-images", "50", "-o", "out", "--json"
    )
    assert ran.status == 0, ran.err
    report = ran.json
    assert {file.name for file in Path("out").iterdir()} == FILES
    assert report["engine"]["linears"]["int8"] == 16
    assert report["accuracy"]["images"] == 50

    told = cli("inspect", "out").out
    assert "16 of 16 planned run in INT8; the model has 18" in told
    assert "4 of 4 fused, 4 in INT8" in told
    assert cli("inspect", "out", "--json").json == report
    assert "blocks.0.mlp.fc1" in cli("inspect", "out", "--node", "blocks.0.mlp.fc1").out
    assert cli("inspect", "out/model.onnx", "--json").json["operators"]["DequantizeLinear"] > 16
    assert len(cli("inspect", "out/engine.json", "--json").json["layers"]) == report["engine"]["layers"]

    for on in ("ort", "eager"):
        found = cli("evaluate", "out", "--data", "digits:test", "--images", "50", "--backend", on, "--json").json
        assert found["data_sha256"] == report["accuracy"]["data_sha256"]
        assert abs(found["top1"] - report["accuracy"]["top1"]) <= 2.0
    assert "no labels" in cli("evaluate", "out", "--data", "random").err
    assert cli("bench", "out", "out/model.onnx", "--rounds", "1", "--json").json["results"][1]["ratio_to_first"] > 0

    again = cli(*DIGITS, "--recipe", "out/recipe.yaml", "-o", "again")
    assert again.status == 0, again.err
    for name in ("model.onnx", "engine.plan"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes()


@pytest.mark.slow
def test_force_replaces_a_compilation_and_a_failure_leaves_the_old_one(cli: Cli) -> None:
    assert cli(*DIGITS, "--recipe", "fp16", "-o", "out").status == 0
    assert cli(*DIGITS, "--recipe", "fp16", "-o", "out").status == 2
    old = Path("out/report.json").read_bytes()
    failed = cli(*DIGITS, "--recipe", "fp16", "-o", "out", "--force", "--pipeline", "canonicalize,nm-mask{n=2 m=7}")
    assert failed.status == 2
    assert Path("out/report.json").read_bytes() == old
    assert cli(*DIGITS, "--recipe", "bf16", "-o", "out", "--force").status == 0
    assert '"recipe": "bf16"' in Path("out/report.json").read_text()
    assert [file.name for file in Path.cwd().iterdir()] == ["out"]


@pytest.mark.slow
def test_a_broken_contract_is_exit_1_and_keeps_the_output(cli: Cli) -> None:
    steps = (
        "canonicalize,fold-constants,fuse-attention,quantize{attention=false},materialize,legalize"  # FP32 attention
    )
    ran = cli(*DIGITS, "--recipe", "int8", "--pipeline", steps, "-o", "out", "--json")
    assert ran.status == 1
    assert Path("out/report.json").is_file()
    found = ran.json
    assert {f"blocks.{block}.attn" for block in range(4)} <= {violation["site"] for violation in found["violations"]}
    assert "blocks.3.attn" in found["error"]
    assert "blocks.3.attn" in ran.err
    told = cli("inspect", "out")
    assert "does not keep its contract" in told.out


@pytest.mark.slow
def test_a_bounded_placement_is_in_recipe_and_report_and_gives_the_same_bytes(cli: Cli) -> None:
    ran = cli(*DIGITS, "--recipe", "int8", "--max-float-layers", "1", "-o", "out", "--json")
    assert ran.status == 0, ran.err
    assert "quantize,mixed-precision{max_float_layers=1},absorb-shifts,assign-precision" in ran.json["pipeline"]
    assert "mixed-precision{max_float_layers=1}" in Path("out/pipeline.txt").read_text()
    (entry,) = [each for each in ran.json["passes"] if each["name"] == "mixed-precision"]
    whole, *rows = entry["found"]
    assert whole["float_layers"] <= 1
    assert len(rows) == 16 + 4
    planned = ran.json["engine"]["linears"]["planned_int8"]
    assert planned == whole["int8_linears"]
    page = Path("out/report.html").read_text()
    assert "<h2>Placement</h2>" in page
    assert all(row["site"] in page for row in rows)
    assert "site(s) fallen back" in cli("inspect", "out").out

    again = cli(*DIGITS, "--recipe", "out/recipe.yaml", "-o", "again")
    assert again.status == 0, again.err
    for name in ("model.onnx", "engine.plan", "recipe.yaml"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes()


@pytest.mark.slow
def test_pruned_units_leave_the_engine_and_the_report_says_what_was_asked(cli: Cli) -> None:
    """A smaller INT8 model that keeps its contract, and the same bytes from its recipe."""
    ran = cli(*DIGITS, "--recipe", "lpvit-int8", "-o", "out", "--json")
    assert ran.status == 0, ran.err
    dense = cli(*DIGITS, "--recipe", "int8", "-o", "dense", "--json").json
    found = ran.json
    (entry,) = [each for each in found["passes"] if each["name"] == "block-prune"]
    whole, *rows = entry["found"]
    assert 0.891 < whole["left"] <= whole["asked"] == 0.9
    assert found["cost"]["macs"] / dense["cost"]["macs"] == pytest.approx(whole["left"], abs=1e-4)
    assert found["cost"]["parameters"] < dense["cost"]["parameters"]
    assert Path("out/model.onnx").stat().st_size < Path("dense/model.onnx").stat().st_size
    assert found["engine"]["linears"] == dense["engine"]["linears"]
    assert found["engine"]["attention"] == dense["engine"]["attention"]
    assert found["violations"] == []
    page, told = Path("out/report.html").read_text(), cli("inspect", "out").out
    assert "<h2>Block pruning</h2>" in page
    assert all(row["pruned"] in page for row in rows)
    assert "90.0% asked for" in told
    again = cli(*DIGITS, "--recipe", "out/recipe.yaml", "-o", "again")
    assert again.status == 0, again.err
    for name in ("model.onnx", "engine.plan", "recipe.yaml"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes()


@pytest.mark.slow
def test_tiles_stay_zeros_that_are_multiplied(cli: Cli) -> None:
    ran = cli(*DIGITS, "--recipe", "lpvit", "-o", "out", "--json")
    assert ran.status == 0, ran.err
    cost, dense = ran.json["cost"], cli("inspect", "digits-vit", "--cost", "--json").json
    assert 0.88 < cost["nonzero_macs"] / dense["macs"] <= 0.9
    assert cost["nonzero_macs"] < cost["macs"] < dense["macs"]  # what tiles emptied has left, the other zeros have not
    assert "no backend gets faster" in cli("inspect", "out").out.replace("\n", " ")


@pytest.mark.slow
@pytest.mark.parametrize("evaluated", [False, True])
def test_a_drop_that_can_not_be_kept_is_exit_1_and_says_how_close_it_came(cli: Cli, evaluated: bool) -> None:
    steps = "canonicalize,fold-constants,fuse-attention,fold-constants,quantize{percentile=98 method=percentile},"
    steps += "assign-precision,materialize,legalize"
    words = ["--evaluate-data", "digits:test", "--evaluate-images", "100"] if evaluated else []
    bounds = ["--max-drop", "0", "--min-int8", "16", "--calibration-images", "64"]
    ran = cli(*DIGITS, "--recipe", "int8", "--pipeline", steps, *bounds, *words, "-o", "out", "--json")
    assert ran.status == 1
    report = ran.json
    (violation,) = [each for each in report["violations"] if "top-1" in each["planned"]]
    assert violation["planned"] == "at most 0 points of top-1 lost"
    lost = float(violation["found"].split()[0])
    assert lost > 0
    assert violation["found"] == f"{lost:g} points with 16 linears in INT8"
    if evaluated:
        assert lost == pytest.approx(report["accuracy"]["top1_reference"] - report["accuracy"]["top1"], abs=1e-3)
    assert ("measured on 100 images" if evaluated else "no labelled images measured it") in violation["why"]
    assert violation["found"] in report["error"]
    assert Path("out/model.onnx").is_file()


def test_bounds_need_a_recipe_that_quantizes(cli: Cli) -> None:
    ran = cli(*DIGITS, "--recipe", "fp16", "--max-drop", "0.3", "-o", "out")
    assert ran.status == 2
    assert "max_drop=0.3: recipe fp16 quantizes nothing" in ran.err
    assert cli(*DIGITS, "--recipe", "int8", "--max-drop", "nan", "-o", "out").status == 2
    assert not Path("out").exists()


def stub(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> dict[str, Any]:
    """Put something in the place of the compiler; gives what it was called with."""
    called = dict[str, Any]()

    def compile_model(model: str, **given: Any) -> Report:
        called.update(given, model=model)
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, Report)
        return outcome

    monkeypatch.setattr("vitgraph.compile.compiler.compile_model", compile_model)
    return called


def empty_report(**more: Any) -> Report:
    content: dict[str, Any] = {
        "vitgraph": "0",
        "model": {"name": "m", "source": "s", "parameters": 1, "input": [1], "weights_sha256": "", "weights": "w", "notes": []},
        "target": "a100", "recipe": "int8", "pipeline": "canonicalize", "batch": "1", "preprocessing": {}, "calibration": None,
        "passes": [], "sites": {}, "cost": {}, "seconds": {}, "peak_rss_mb": 1,
        "accuracy_why": "nobody asked", "engine_why": "no builder",
    }  # fmt: skip
    return Report.model_validate(content | more)


def test_every_option_reaches_the_compiler(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    called = stub(monkeypatch, empty_report())
    ran = cli(
        "compile", "m", "--target", "a100", "--recipe", "int8", "-o", "o", "--weights", "random", "--model-args", "depth=1 x=a",
        "--model-args", "y=2.5", "--image-size", "32x48", "--calibration-data", "c", "--calibration-images", "7",
        "--evaluate-data", "e", "--evaluate-images", "9", "--pipeline", "nm-mask{n=2 m=4}", "--batch", "1:2:4", "--seed", "5", "--force",
        "--max-drop", "0.3", "--min-int8", "4", "--max-float-layers", "2", "--drop-unprofitable-masks", "--measured", "engine.json",
        "--backend", "openvino", "--warn-drop", "1.5",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    options = called.pop("preprocessing")
    assert options == replace(options, image_size=(32, 48))
    del called["progress"]
    assert called == {
        "model": "m", "target": "a100", "recipe": "int8", "out": Path("o"), "weights": "random",
        "model_args": {"depth": 1, "x": "a", "y": 2.5}, "calibration_data": "c", "calibration_images": 7,
        "evaluate_data": "e", "evaluate_images": 9, "pipeline": "nm-mask{n=2 m=4}", "batch": "1:2:4", "seed": 5, "force": True,
        "max_drop": 0.3, "min_int8": 4, "max_float_layers": 2, "drop_unprofitable_masks": True, "measured": Path("engine.json"),
        "backend": "openvino", "warn_drop": 1.5,
    }  # fmt: skip


def test_what_was_not_measured_says_why(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, empty_report())
    told = cli("compile", "m", "--target", "a100", "--recipe", "int8", "-o", "o").out
    assert "not measured: nobody asked" in told
    assert "not built: no builder" in told


def test_warnings_are_said_on_the_screen(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for warnings in (["nothing is quantized: name them"], []):
        stub(monkeypatch, empty_report(warnings=warnings))
        told = cli("compile", "m", "--target", "a100", "--recipe", "int8", "-o", "o").out
        assert ("nothing is quantized: name them" in " ".join(told.split())) == bool(warnings)


@pytest.mark.parametrize(
    ("error", "status"), [(InputError("no"), 2), (CheckFailed("no"), 1), (KeyboardInterrupt(), 130)]
)
def test_errors_without_an_output(error: BaseException, status: int, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, error)
    ran = cli("compile", "m", "--target", "a100", "--recipe", "int8", "-o", "o", "--json")
    assert ran.status == status
    assert ran.json["exit_status"] == status


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    many = ("compile", "digits-vit", "--target", "a100", "--recipe", "int8", "--calibration-data", "digits:train")
    code = f"import sys; from vitgraph.tools.cli import main; sys.exit(main({[*many, '--calibration-images', '1000', '-o', 'out']}))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / ".out.unfinished" / "folder").exists():
        assert process.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    assert "interrupted" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_masks_that_buy_no_time_are_taken_back(cli: Cli) -> None:
    words = ["--recipe", "sparse-int8", "--evaluate-data", "digits:test", "--evaluate-images", "100"]
    ran = cli(*DIGITS, *words, "--drop-unprofitable-masks", "-o", "out", "--json")
    assert ran.status == 0, ran.err
    mask_profit = ran.json["mask_profit"]
    assert (mask_profit["kept"], mask_profit["dropped"], len(mask_profit["sites"])) == (0, 16, 16)
    assert ran.json["engine"]["sparse"]["masked"] == 0
    assert mask_profit["top1_regained"] == pytest.approx(
        ran.json["accuracy"]["top1"] - mask_profit["top1_all_masks"], abs=1e-3
    )
    assert all(0 < row["saliency_lost"] < 0.5 and "a100 at batch 1" in row["why"] for row in mask_profit["sites"])
    assert "blocks.0.attn.qkv" in Path("out/recipe.yaml").read_text()
    page = Path("out/report.html").read_text()
    assert "<h2>Profitable masks</h2>" in page
    assert "dropped." in page
    assert "16 dropped that buy no time" in cli("inspect", "out").out

    again = cli(*DIGITS, "--recipe", "out/recipe.yaml", "-o", "again")
    assert again.status == 0, again.err
    assert Path("again/model.onnx").read_bytes() == Path("out/model.onnx").read_bytes()


def engine_json(flavour: str, tactics: dict[str, str]) -> str:
    layer = {"type": "int8", "fused_attention": False}
    return json.dumps(
        {"flavour": flavour, "layers": [{**layer, "modules": [site], "tactic": each} for site, each in tactics.items()]}
    )


@pytest.mark.slow
def test_evidence_decides_where_it_speaks(cli: Cli) -> None:
    sparse, dense = "sm80_xmma_sparse_gemm_i8i8_i8i32_f32", "sm80_xmma_gemm_i8i8_i8i32_f32"
    Path("engine.json").write_text(engine_json("tensorrt", {"blocks.0.mlp.fc1": sparse, "blocks.0.mlp.fc2": dense}))
    ran = cli(*DIGITS, "--recipe", "sparse-int8", "--measured", "engine.json", "-o", "out", "--json")
    assert ran.status == 0, ran.err
    rows = {row["site"]: row for row in ran.json["mask_profit"]["sites"]}
    assert [site for site, row in rows.items() if row["pays"]] == ["blocks.0.mlp.fc1"]
    assert rows["blocks.0.mlp.fc1"]["why"] == f"the builder took {sparse}"
    assert rows["blocks.0.mlp.fc2"]["why"] == "the builder took a dense kernel"
    assert ran.json["engine"]["sparse"]["masked"] == 1
    assert ran.json["mask_profit"]["top1_regained"] is None


@pytest.mark.parametrize(
    ("steps", "target", "measured_layers", "says"),
    [
        ("canonicalize", "a100", None, "the pipeline has no nm-mask"),
        ("nm-mask", "cpu", None, "no time can be estimated for cpu"),
        ("nm-mask", "a100", engine_json("tensorrt_rtx", {"a": "b"}), "picks sparse kernels when the engine first runs"),
        ("nm-mask", "a100", engine_json("tensorrt", {}), "none of its layers names a kernel"),
        ("nm-mask", "a100", "{", "engine.json is not JSON"),
    ],
)
def test_what_cannot_be_judged_is_told_before_any_work(
    cli: Cli, steps: str, target: str, measured_layers: str | None, says: str
) -> None:
    words = ["--drop-unprofitable-masks"]
    if measured_layers is not None:
        Path("engine.json").write_text(measured_layers)
        words = ["--measured", "engine.json"]
    words += ["--recipe", "fp16", "--pipeline", steps]
    ran = cli("compile", "digits-vit", "--target", target, *words, "-o", "out")
    assert ran.status == 2
    assert says in " ".join(ran.err.split())
    assert not Path("out").exists()


def test_a_folder_without_an_engine_says_what_is_in_it_and_what_to_do(tmp_path: Path) -> None:
    report = Report.model_validate(
        CONTENT | {"target": "orin-agx", "engine_why": get_target("orin-agx").no_builder_here}
    )
    for name in ("model.onnx", "build_on_device.sh"):
        (tmp_path / name).write_text("")
    told = str(summary(report, tmp_path))
    assert "build_on_device.sh, which builds the engine there" in told
    assert "build_on_device.sh, model.onnx" in told
    assert "copy the folder to the device and run `sh build_on_device.sh` in it" in told
    (tmp_path / "build_on_device.sh").unlink()
    assert "next" not in str(summary(report, tmp_path))
