"""Outputs of whole commands: the same bytes from the same input, and two processes that want one place."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tools.conftest import Cli, cli
from vitgraph.compile.compiler import TIMED
from vitgraph.outputs.manifest import differences

__all__ = ["cli"]

COMPILE = (
    "compile",
    "digits-vit",
    "--recipe",
    "int8",
    "--calibration-data",
    "digits:train",
    "--calibration-images",
    "4",
)
QUICK = ("--target", "orin-agx", "--pipeline", "canonicalize,fold-constants,quantize,materialize")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its name, those that hold times as their words alone."""
    files = {each.relative_to(folder).as_posix(): each for each in folder.rglob("*") if each.is_file()}
    plain = {name: file.read_bytes() for name, file in files.items() if name not in TIMED}
    return plain | {"report.json": json.dumps(timeless(folder)).encode()}


def timeless(folder: Path) -> dict[str, Any]:
    """The report without what the clock and the memory meter said; nothing else may differ from run to run."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert min(report["seconds"]["total"], report["peak_rss_mb"]) > 0
    for key in ("seconds", "peak_rss_mb"):
        del report[key]
    report["passes"] = [{key: entry[key] for key in entry if key != "seconds"} for entry in report["passes"]]
    if report["engine"] is not None:
        del report["engine"]["build_seconds"]
    return report


def test_the_same_input_has_the_same_bytes(cli: Cli) -> None:
    for out in ("out", "elsewhere/with another name"):
        assert cli(*COMPILE, *QUICK, "-o", out).status == 0
    first, second = contents(Path("out")), contents(Path("elsewhere/with another name"))
    assert first == second
    assert {"manifest.json", "model.onnx", "program/program.safetensors", "report.json"} <= first.keys()
    assert {*first, "report.html"} == {*json.loads(first["manifest.json"])["files"], "manifest.json"}
    assert cli(*COMPILE, *QUICK, "-o", "out", "--force").status == 0, "the second page of times is as much ours"


def test_another_input_has_other_bytes(cli: Cli) -> None:
    for images, out in ((4, "four"), (5, "five")):
        assert cli(*COMPILE[:-1], images, *QUICK, "-o", out).status == 0
    assert contents(Path("four")) != contents(Path("five"))


@pytest.mark.slow
def test_the_same_bytes_from_the_builder(cli: Cli) -> None:
    for out in ("out", "elsewhere/out"):
        assert cli(*COMPILE, "--target", "a100", "-o", out).status == 0
    first, second = contents(Path("out")), contents(Path("elsewhere/out"))
    assert {"engine.plan", "engine.json", "build.log"} <= first.keys()
    assert {name for name in first if first[name] != second[name]} == set()


def words(*more: str) -> list[str]:
    return [sys.executable, "-O", "-m", "vitgraph", *COMPILE, *QUICK, *more]


@pytest.mark.slow
def test_two_processes_and_one_place(tmp_path: Path) -> None:
    """Also where Python leaves assertions out, and knows neither a home nor a language."""
    bare = {"PATH": os.environ["PATH"], "LANG": "C", "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(words("-o", "aus Köln"), cwd=tmp_path, env=bare, stderr=pipe, text=True) as first:
        while not (tmp_path / ".aus Köln.unfinished/folder").exists():
            assert first.poll() is None
            time.sleep(0.02)
        first.send_signal(signal.SIGSTOP)  # so that it is at work for as long as the second is
        second = subprocess.run(
            words("-o", "aus Köln", "--force"), check=False, cwd=tmp_path, capture_output=True, text=True
        )
        first.send_signal(signal.SIGCONT)
        told = first.communicate()[1]
    assert first.returncode == 0, told
    assert second.returncode == 2
    assert f"is being written by process {first.pid}; wait for it, or name another with -o" in second.stderr
    assert differences(tmp_path / "aus Köln") == []
    assert [each.name for each in tmp_path.iterdir()] == ["aus Köln"]
