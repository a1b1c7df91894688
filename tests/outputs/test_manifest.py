"""What a manifest says, and what it takes for the user's."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vitgraph.outputs.manifest import differences, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished output of three files, one of which holds times."""
    made = tmp_path / "made"
    (made / "program").mkdir(parents=True)
    (made / "model.onnx").write_bytes(b"\0model" * 100)
    (made / "program/graph.txt").write_text("x = input()\n")
    (made / "report.json").write_text('{"seconds": 1.25, "recipe": "int8"}\n')
    write_manifest(made, ["report.json"])
    return made


def test_what_was_written_is_ours(folder: Path, tmp_path: Path) -> None:
    assert differences(folder) == []
    (tmp_path / "empty").mkdir()
    assert differences(tmp_path / "empty") == []


ALL = ["manifest.json", "model.onnx", "program/", "program/graph.txt", "report.json"]


def add(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text("x")


def flip(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[3] ^= 1
        (folder / name).write_bytes(data)

    return change


def relink(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere")


def pipe(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")


def rewrite(folder: Path, **change: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | change))


CHANGES: list[tuple[Callable[[Path], object], list[str]]] = [
    (add("thesis.tex"), ["thesis.tex"]),
    (add("program/notes.txt"), ["program/notes.txt"]),
    (lambda folder: (folder / "photos").mkdir(), ["photos/"]),
    (lambda folder: (folder / "photos").symlink_to(folder.parent), ["photos"]),
    (flip("model.onnx"), ["model.onnx (changed)"]),
    (lambda folder: (folder / "model.onnx").open("ab").write(b"x"), ["model.onnx (changed)"]),
    (lambda folder: (folder / "report.json").write_text('{"seconds": 1.25, "recipe": "mine"}\n'), ["report.json (changed)"]),
    (relink, ["model.onnx (changed)"]),
    (lambda folder: (folder / "manifest.json").unlink(), ALL[1:]),
    (lambda folder: (folder / "manifest.json").write_text("[" * 3000), ALL),
    (pipe, ALL),
    (lambda folder: rewrite(folder, format="another"), ALL),
    (lambda folder: rewrite(folder, files=[]), ALL),
    (lambda folder: rewrite(folder, files={"model.onnx": 3}), ["program/", "program/graph.txt", "report.json", "model.onnx (changed)"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "found"), CHANGES)
def test_what_was_not_is_named(change: Callable[[Path], object], found: list[str], folder: Path) -> None:
    change(folder)
    assert differences(folder) == found


def test_another_program_s_manifest_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "web app"}')
    assert differences(tmp_path) == ["manifest.json"]


def test_a_file_that_is_gone_is_no_loss(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    assert differences(folder) == []


def test_other_times_are_the_same_manifest(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    (folder / "report.json").write_text('{"seconds": 123.5e-7, "recipe": "int8"}\n')
    (folder / "manifest.json").unlink()
    write_manifest(folder, ["report.json"])
    assert (folder / "manifest.json").read_bytes() == before
