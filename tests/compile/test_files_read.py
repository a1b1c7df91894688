"""A word that is a name is one also where a file is called so."""

from pathlib import Path

import pytest

from tests.planted import MLP
from tests.tools.conftest import Cli, cli
from vitgraph.compile.files_read import files_read
from vitgraph.ir.parser import parse
from vitgraph.ir.program_file import save

__all__ = ["cli"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_are_no_files() -> None:
    for name in ("digits-vit", "a100", "int8", "canonicalize", "pretrained", "random", "digits:train", "avg"):
        Path(name).mkdir()
    words = files_read(
        "digits-vit", ("a100", "int8", "canonicalize"), ("pretrained", "random", "digits:train"), {"pool": "avg"}
    )
    assert words == ()


def test_files_are() -> None:
    save(parse(MLP), Path("p/program.safetensors"))
    for name in ("a.yaml", "b.yml", "weights.pth", "random", "labels"):
        Path(name).touch()
    Path("images").mkdir()
    read = files_read(
        "p",
        ("a.yaml", Path("b.yml"), "gone.yaml", None),
        ("weights.pth", "images", Path("random"), None),
        {"a": "./labels", "b": 3},
    )
    assert list(map(str, read)) == ["p", "a.yaml", "b.yml", "weights.pth", "images", "random", "labels"]
    assert files_read(object(), (object(),), (object(),), None) == ()


@pytest.mark.parametrize("name", ["int8", "cpu", "digits-vit"])
def test_an_output_may_be_called_as_what_it_is_made_of(name: str, cli: Cli) -> None:
    Path(name).mkdir()
    line = (
        "compile",
        "digits-vit",
        "--target",
        "cpu",
        "--recipe",
        "int8",
        "--pipeline",
        "canonicalize",
        "-o",
        name,
        "--force",
    )
    ran = cli(*line)
    assert ran.status == 0, ran.err
    assert Path(name, "model.onnx").is_file()
