"""Reports, engines' layers and searches that were edited, cut short, or are something else."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.bad_inputs.mistake import Mistake, each, hold
from tests.compile.test_report import CONTENT
from tests.planted import MLP
from tests.tools.conftest import Cli
from tests.tools.engine_file import ENGINE
from vitgraph.ir.parser import parse
from vitgraph.ir.program_file import save

LINEARS: dict[str, Any] = {"int8": 1, "planned_int8": 1, "fallback": []}
BUILT: dict[str, Any] = {
    "bytes": 10, "layers": 2, "flavour": "tensorrt", "version": "10", "role": "deployable", "role_why": "", "compute_capabilities": ["8.7"],
    "linears": LINEARS, "attention": {"fused": 0, "sites": 0}, "gemm": {"int8": 1}, "sparse": None,
}  # fmt: skip
ACCURACY = {
    "images": 4,
    "top1_reference": 50.0,
    "top1": 50.0,
    "agreement": 100.0,
    "measured_on": "ort",
    "data_sha256": "",
}
LATENCY = {
    "measured_on": "GPU", "card": {"name": "GPU", "driver": "580"}, "rounds": 3,
    "results": [{"backend": "cuda", "batch": 8, "median_ms": 1.0, "device_median_ms": "fast", "device_p10_ms": 1.0, "device_p90_ms": 1.0, "device_images_per_second": 8.0}],
}  # fmt: skip
PREPROCESSING = {"image_size": [8, 8], "resize": [8, 8], "mean": [0.5], "std": [0.5]}
REPORT: dict[str, Any] = CONTENT | {"engine": BUILT, "accuracy": ACCURACY, "preprocessing": PREPROCESSING}
PLACEMENT = {
    "placement": "met", "max_drop": 1.0, "expected_drop": 0.5, "expected_drop_all_int8": 1.5, "agreement": 99.0, "kl": 0.1,
    "kl_all_int8": 0.2, "float_layers": 1, "int8_linears": 4, "images": 32,
}  # fmt: skip


def edited(content: dict[str, Any], path: str, value: Any) -> str:
    """The document with another value at a path such as `engine.linears.int8`."""
    changed = copy.deepcopy(content)
    *parents, last = path.split(".")
    place: Any = changed
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    place[int(last) if last.isdigit() else last] = value
    return json.dumps(changed)


def _report(name: str, path: str, value: Any, *says: str) -> Mistake:
    """An edited report, looked at."""
    files = {"out/report.json": edited(REPORT, path, value)}
    return Mistake(name, ("inspect", "out"), ("out/report.json", "no vitgraph report", *(says or (path,))), files)


def _text(name: str, text: str | bytes, *says: str) -> Mistake:
    return Mistake(name, ("inspect", "out"), ("out/report.json", *says), {"out/report.json": text})


def _engine(name: str, path: str, value: Any, *says: str) -> Mistake:
    """Edited layers, looked at."""
    files = {"engine.json": edited(ENGINE, path, value)}
    return Mistake(name, ("inspect", "engine.json"), ("engine.json: is no engine report", *(says or (path,))), files)


def _measured(name: str, text: str, *says: str) -> Mistake:
    """Layers of an engine that masks are judged by."""
    command = ("compile", "digits-vit", "--target", "a100", "--recipe", "fp16", "--pipeline", "nm-mask", "-o", "out")
    return Mistake(name, (*command, "--measured", "l.json"), ("--measured l.json", *says), {"l.json": text})


def _times(name: str, change: dict[str, Any], *says: str) -> Mistake:
    """Times of products, in one of which something else stands."""
    time = {
        "form": "fp16",
        "us": 4.0,
        "quartiles": None,
        "kernel": "k",
        "covers": "site",
        "output": "fp16",
        "why": None,
    }
    content: dict[str, Any] = {
        "format": "vitgraph measured products 1", "device": {"card": "NVIDIA A100-SXM4-80GB", "compute_capability": "8.0"},
        "method": {"clock": "c", "cache": "warm", "rounds": None},
        "products": [{"rows": 8, "n": 8, "k": 8, "times": [{**time, **change}]}], **change.get("top", {}),
    }  # fmt: skip
    for product in content["products"]:
        product["times"][0].pop("top", None)
    return _measured(name, json.dumps(content), *says)


TIMES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("NaN", {"us": float("nan")}, ("is not JSON", "NaN is no number")),
    ("less than nothing", {"us": -3.0}, ("products.0.times.0.us", "greater than 0", "`vitgraph tune` writes")),
    ("in words", {"us": "fast"}, ("products.0.times.0.us",)),
    ("null without a reason", {"us": None}, ("why",)),
    ("a format that is none", {"form": "int3"}, ("products.0.times.0.form",)),
    ("a key too many", {"speed": 3}, ("speed", "not permitted")),
    ("of another version", {"top": {"format": "vitgraph measured products 9"}}, ("format", "`vitgraph tune` writes")),
    ("of nothing", {"top": {"products": []}}, ("products",)),
    ("of another card", {"top": {"device": {"card": "NVIDIA H200", "compute_capability": "9.0"}}}, ("was measured on NVIDIA H200", "a100 is of 8.0")),
]  # fmt: skip


def _cost(name: str, path: str, value: Any, *says: str) -> Mistake:
    files = {"out/report.json": edited(REPORT, path, value)}
    return Mistake(name, ("inspect", "out", "--cost"), ("out/report.json", *says), files)


def _evaluate(name: str, path: str, value: Any, *says: str) -> Mistake:
    files = {"out/report.json": edited(REPORT, path, value)}
    return Mistake(name, ("evaluate", "out", "--data", "digits:test"), ("out", *says), files)


def _reproducer(name: str, recorded: Any, *says: str) -> Mistake:
    """A program that says it reproduces a failure."""

    def write(path: Path) -> None:
        program = parse(MLP)
        program.provenance["reproduce"] = recorded
        save(program, path)

    return Mistake(
        name,
        ("opt", "again.safetensors"),
        ("again.safetensors: ", "reproduce", *says),
        {"again.safetensors": write},
    )


MISTAKES = [
    _text("report: empty", "", "is not JSON"),
    _text("report: cut short", json.dumps(REPORT)[:200], "is not JSON"),
    _text("report: a list", "[]", "no vitgraph report"),
    _text("report: a number", "3", "no vitgraph report"),
    _text("report: null", "null", "no vitgraph report"),
    _text("report: a text", '"report"', "no vitgraph report"),
    _text("report: no keys", "{}", "no vitgraph report", "vitgraph: Field required"),
    _text("report: bytes", b"\xff\xfe\x00report", "is not text in UTF-8"),
    _text("report: a number of 5,000 digits", "9" * 5000, "is not JSON"),
    _text("report: nested 3,000 deep", "[" * 3000 + "]" * 3000, "not JSON"),
    _text("report: half a surrogate pair", json.dumps(REPORT | {"target": "\ud800"}), "not JSON"),
    _report("report: a batch in words", "batch", "abc"),
    _report("report: latency in words", "latency", "fast"),
    _report("report: latency without a card", "latency", {"measured_on": "GPU", "rounds": 3, "results": []}, "latency", "card"),
    _report("report: a time in words", "latency", LATENCY, "latency", "results.0.device_median_ms"),
    _report("report: a batch of none", "batch", "0", "batch", "write one size"),
    _report("report: a batch that is a number", "batch", 8, "batch"),
    _report("report: no model", "model", None, "model"),
    _report("report: parameters in words", "model.parameters", "many"),
    _report("report: notes that are no list", "model.notes", "none"),
    _report("report: input that is no list", "model.input", 3),
    _report("report: passes that are no list", "passes", {"name": "x"}, "passes"),
    _report("report: a pass that is a word", "passes.0", "canonicalize", "passes"),
    _report("report: a pass without a name", "passes.0", {}, "passes", "name: Field required"),
    _report("report: a refusal without a reason", "passes.0.refused", [{"site": "a"}], "refused.0.why"),
    _report("report: a refusal that is a word", "passes.0.refused", ["a"], "refused.0"),
    _report("report: findings that are no list", "passes.0.found", 3, "found"),
    _report("report: a finding with a count in words", "passes.0.found", [PLACEMENT | {"images": "few"}], "PlacementFinding: images"),
    _report("report: a finding with a drop in words", "passes.0.found", [PLACEMENT | {"expected_drop": "none"}], "expected_drop"),
    _report("report: an engine that is a word", "engine", "here", "engine"),
    _report("report: linears that are a number", "engine.linears", 3, "engine", "linears"),
    _report("report: linears in words", "engine.linears.int8", "all", "linears.int8"),
    _report("report: fallback that is no list", "engine.linears.fallback", "fc1", "linears.fallback"),
    _report("report: attention without sites", "engine.attention", {"fused": 1}, "attention.sites"),
    _report("report: bytes in words", "engine.bytes", "ten", "bytes"),
    _report("report: gemm that is a list", "engine.gemm", [1], "gemm"),
    _report("report: masks in words", "engine.sparse", {"masked": "all"}, "sparse.masked"),
    _report("report: violations that are a word", "violations", "none", "violations"),
    _report("report: a violation without a site", "violations", [{"planned": "a"}], "site"),
    _report("report: a violation that is a number", "violations", [3], "violations"),
    _report("report: accuracy in words", "accuracy.agreement", "all", "accuracy.agreement"),
    _report("report: accuracy without images", "accuracy", {"top1": 3.0}, "accuracy"),
    _report("report: kept masks in words", "mask_profit", {"kept": "all"}, "kept"),
    _report("report: seconds that are no mapping", "seconds", 3, "seconds"),
    _report("report: stored bytes in words", "cost.weight_bytes.stored", "few", "weight_bytes.stored"),
    _cost("cost: none in the report", "cost", {}, "no cost"),
    _cost("cost: counts in words", "cost.macs", "many", "macs"),
    _cost("cost: estimates that are a list", "cost.estimated_ms", [1], "estimated_ms"),
    _cost("cost: estimates without energy", "cost.estimated_mj", {}, "estimated_mj"),
    _evaluate("evaluate: settings that are a list", "preprocessing", [], "preprocessing"),
    _evaluate("evaluate: no settings", "preprocessing", None, "not known how images are pre-processed"),
    _evaluate("evaluate: a size of none", "preprocessing.image_size", [0, 8], "image_size"),
    _evaluate("evaluate: another resampling", "preprocessing.interpolation", 99, "interpolation"),
    _evaluate("evaluate: a mean that is a number", "preprocessing.mean", 3, "mean"),
    _evaluate("evaluate: a deviation of zero", "preprocessing.std", [0], "std"),
    _evaluate("evaluate: a setting that is none of ours", "preprocessing.color", "red", "color"),
    _evaluate("evaluate: no model beside the report", "target", "cpu", "model.onnx"),
    _engine("engine: no layers", "layers", None, "layers"),
    _engine("engine: layers that are a mapping", "layers", {"a": 1}, "layers"),
    _engine("engine: a layer that is a word", "layers.0", "gemm", "layers.0"),
    _engine("engine: a layer without a name", "layers.0.name", None, "layers.0.name"),
    _engine("engine: inputs that are a number", "layers.0.inputs", 3, "layers.0.inputs"),
    _engine("engine: a shape in words", "layers.0.outputs.0.shape", "wide", "layers.0.outputs.0.shape"),
    _engine("engine: bytes in words", "bytes", "ten", "bytes"),
    Mistake("engine: not JSON", ("inspect", "engine.json"), ("engine.json", "is not JSON"), {"engine.json": "{"}),
    Mistake("engine: a list", ("inspect", "engine.json"), ("engine.json: is no engine report",), {"engine.json": "[]"}),
    Mistake("engine: a node that is not there", ("inspect", "engine.json", "--node", "fc9"), ("fc9", "none of the 2 layers"), {"engine.json": json.dumps(ENGINE)}),
    Mistake("engine: drawn", ("inspect", "engine.json", "--format", "dot"), ("no edges to draw",), {"engine.json": json.dumps(ENGINE)}),
    Mistake("engine: cost asked", ("inspect", "engine.json", "--cost"), ("--cost counts a model",), {"engine.json": json.dumps(ENGINE)}),
    _measured("measured: empty", "", "is not JSON"),
    _measured("measured: a number", "3", "no engine's layers"),
    _measured("measured: a list of words", '{"Layers": ["a", "b"]}', "no engine's layers"),
    _measured("measured: layers that are a word", '{"Layers": "many"}', "no engine's layers"),
    _measured("measured: no layers", '{"Layers": []}', "names a kernel"),
    _measured("measured: own layers without a flavour", '{"layers": []}', "no engine's layers"),
    _measured("measured: own layers that are words", '{"layers": ["a"], "flavour": "tensorrt"}', "no engine's layers"),
    _measured("measured: own layers without a kernel", edited(ENGINE, "layers", []), "names a kernel"),
    _measured("measured: a kernel that is a number", edited(ENGINE, "layers.0.tactic", 3), "no engine's layers"),
    _measured("measured: modules that are a number", edited(ENGINE, "layers.0.modules", 3), "no engine's layers"),
    _measured("measured: modules that are lists", edited(ENGINE, "layers.0.modules", [[1]]), "no engine's layers"),
    *(_times(f"times: {name}", change, *says) for name, change, says in TIMES),
    Mistake("measured: gone", ("compile", "digits-vit", "--target", "a100", "--recipe", "fp16", "-o", "out", "--measured", "gone.json"), ("gone.json", "No such file")),
    Mistake("search.json, looked at", ("inspect", "search.json"), ("search.json", "search.html"), {"search.json": "{}"}),
    Mistake("a folder of a search, looked at", ("inspect", "found"), ("found", "search"), {"found/search.json": "{}"}),
    Mistake("a recipe, looked at", ("inspect", "recipe.yaml"), ("recipe.yaml is no graph", "--pipeline"), {"recipe.yaml": "pipeline: []"}),
    Mistake("a report for a program", ("opt", "report.json", "--pipeline", "canonicalize"), ("report.json",), {"report.json": "{}"}),
    Mistake("a report for weights", ("opt", "digits-vit", "--weights", "report.json", "--pipeline", "canonicalize"), ("report.json",), {"report.json": "{}"}),
    Mistake("a report for a recipe", ("compile", "digits-vit", "--target", "a100", "--recipe", "report.json", "-o", "out"), ("report.json", "recipe"), {"report.json": "{}"}),
    _reproducer("reproducer: a number", 3),
    _reproducer("reproducer: no pipeline", {}, "pipeline"),
    _reproducer("reproducer: a pipeline that is a list", {"pipeline": ["canonicalize"]}, "pipeline"),
    _reproducer("reproducer: a pass that is not there", {"pipeline": "canonicalise"}, "canonicalise"),
    _reproducer("reproducer: settings that are a list", {"pipeline": "canonicalize", "settings": [1]}),
    _reproducer("reproducer: images in words", {"pipeline": "canonicalize", "settings": {"calibration_images": "few"}}, "calibration_images"),
    _reproducer("reproducer: a target that is a list", {"pipeline": "canonicalize", "settings": {"target": ["a100"]}}, "target"),
    Mistake("text that is no reproducer", ("opt", "mlp.txt"), ("mlp.txt is no reproducer",), {"mlp.txt": MLP}),
]  # fmt: skip


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)


@pytest.mark.parametrize("name", ["out", "engine.json"])
def test_what_was_not_edited_is_shown(name: str, cli: Cli) -> None:
    Path("out").mkdir()
    Path("out/report.json").write_text(json.dumps(REPORT), encoding="utf-8")
    Path("engine.json").write_text(json.dumps(ENGINE), encoding="utf-8")
    ran = cli("inspect", name)
    assert (ran.status, ran.err) == (0, "")
    assert "deployable" in ran.out
