"""The report: one document that reads back, and a page that holds the same."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from vitgraph.compile.report import Report, read_report, write_html
from vitgraph.errors import InputError
from vitgraph.tools.compile_model import summary

CONTENT: dict[str, Any] = {
    "vitgraph": "0.1.0",
    "model": {"name": "m<1>", "source": "timm:m", "parameters": 10, "input": ["N", 3, 4, 4], "weights_sha256": "ab",
              "weights": "random, seed 0", "notes": []},
    "target": "a100",
    "recipe": "int8",
    "pipeline": "canonicalize",
    "batch": "1",
    "preprocessing": {"mean": [0.5]},
    "calibration": None,
    "passes": [
        {
            "name": "canonicalize", "options": {}, "effect": "reorders", "changed": True, "seconds": 0.1, "nodes": [3, 2],
            "drift": None, "refused": [{"site": "a", "why": "b"}],
        }
    ],
    "sites": {"linear": 1, "attention": {"softmax": 1}},
    "cost": {
        "parameters": 10, "nonzero_parameters": 10, "macs": 5, "nonzero_macs": 5, "bit_operations": 5,
        "weight_bytes": {"dense_fp32": 40, "stored": 20, "unpacked": 20, "ratio": 2.0}, "estimated_by": "r & d",
        "estimated_ms": {"a100": 1.25, "cpu": None}, "estimated_mj": {"a100": 33.5, "cpu": None},
        "estimated_bound": {"a100": "launch", "cpu": None}, "estimated_why": {"cpu": "no <rate>"},
    },
    "accuracy_why": "no evaluation data was given",
    "engine_why": "not built",
    "latency_why": "not measured",
    "seconds": {"capture": 0.1, "build": None, "total": 0.2},
    "peak_rss_mb": 100,
}  # fmt: skip


def test_reads_back_what_it_writes(tmp_path: Path) -> None:
    report = Report.model_validate(CONTENT)
    file = tmp_path / "report.json"
    file.write_text(report.to_json(), encoding="utf-8")
    assert read_report(file) == report
    assert read_report(tmp_path) == report  # the folder that holds it
    assert list(json.loads(report.to_json()))[: len(CONTENT)][:3] == ["vitgraph", "model", "target"]
    assert report.to_json() == Report.model_validate_json(report.to_json()).to_json()


def test_what_was_not_compared_is_told(tmp_path: Path) -> None:
    some = {"calls": 7, "compared": 4, "worst_relative_l2": None, "worst_at": None, "why": "no <kernel>"}
    for lowering, told in (
        (some, "4 of 7 calls compared with the program: no "),
        (None, "not compared with the program: no "),
    ):
        report = Report.model_validate({**CONTENT, "lowering": lowering, "lowering_why": "no <kernel>"})
        assert report.uncompared == f"{told}<kernel>"
        write_html(report, tmp_path / "report.html")
        assert f"model.onnx: {told}&lt;kernel&gt;" in (tmp_path / "report.html").read_text()
        assert f"{told}<kernel>" in str(summary(report, tmp_path))
    assert Report.model_validate(CONTENT).uncompared is None


def test_what_was_not_obtained_is_null() -> None:
    document = json.loads(Report.model_validate(CONTENT).to_json())
    for key in ("accuracy", "engine", "latency"):
        assert document[key] is None
        assert document[f"{key}_why"]


@pytest.mark.parametrize("key", ["model", "target", "passes", "cost", "seconds", "peak_rss_mb"])
def test_a_document_without_a_key_is_no_report(key: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps({name: value for name, value in CONTENT.items() if name != key}), encoding="utf-8")
    with pytest.raises(InputError, match=r"is no vitgraph report|is not JSON"):
        read_report(file)


def test_a_number_in_words_is_no_report(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(CONTENT | {"peak_rss_mb": "much"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"is no vitgraph report|is not JSON"):
        read_report(file)


def test_nothing_there_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text("not json", encoding="utf-8")
    with pytest.raises(InputError, match=r"is no vitgraph report|is not JSON"):
        read_report(tmp_path)


def test_the_page_holds_the_same_and_escapes_it(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_html(Report.model_validate(CONTENT), page)
    text = page.read_text(encoding="utf-8")
    assert "m&lt;1&gt;" in text
    assert "m<1>" not in text
    assert "a100" in text
    assert "no evaluation data was given" in text
    assert "Estimated, not measured" in text
    assert "no &lt;rate&gt;" in text
    assert "http://" not in text.replace("http://www.w3.org", "")  # self-contained


def test_the_page_has_the_warnings(tmp_path: Path) -> None:
    for warnings in (["nothing is quantized: name <them>"], []):
        write_html(Report.model_validate(CONTENT | {"warnings": warnings}), tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert ("nothing is quantized: name &lt;them&gt;" in text) == bool(warnings)


BUILT: dict[str, Any] = {
    "flavour": "tensorrt", "version": "10", "compute_capabilities": ["8.7"], "role": "deployable", "role_why": "", "layers": 3, "bytes": 10,
    "linears": {"int8": 1, "planned_int8": 1, "fallback": []}, "gemm": {"int8": 1},
    "attention": {"fused": 0, "sites": 0, "fused_int8": 0},
    "sparse": {"masked": 0, "held": 0, "patterns": {}, "why": "no mask"},
}  # fmt: skip


@pytest.mark.parametrize(("masked", "told"), [(0, False), (2, True)])
def test_the_page_speaks_of_masks_where_there_are_some(masked: int, told: bool, tmp_path: Path) -> None:
    report = Report.model_validate(CONTENT | {"engine": BUILT | {"sparse": BUILT["sparse"] | {"masked": masked}}})
    write_html(report, tmp_path / "report.html")
    assert ("masked weights" in (tmp_path / "report.html").read_text(encoding="utf-8")) == told


@pytest.mark.parametrize("template", ["report", "elsa", "lpvit"])
def test_a_page_fits_a_narrow_screen(template: str) -> None:
    """Wide tables scroll by themselves, so that the page does not."""
    folder = resources.files("vitgraph.compile").joinpath("templates")
    assert '<meta name="viewport" content="width=device-width' in folder.joinpath(f"{template}.html.j2").read_text()
    assert '{% include "style.html.j2" %}' in folder.joinpath(f"{template}.html.j2").read_text()
    style = folder.joinpath("style.html.j2").read_text()
    assert "display: block; max-width: 100%; overflow-x: auto;" in style
