"""Where outputs may go. What a user is told of each mistake is in `tests/bad_inputs/test_outputs.py`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vitgraph.errors import InputError
from vitgraph.outputs.destination import check_file, check_folder, unfinished
from vitgraph.outputs.manifest import write_manifest
from vitgraph.outputs.workspace import parts_of


def output(folder: Path) -> Path:
    """A folder as vitgraph leaves it."""
    (folder / "program").mkdir(parents=True)
    (folder / "program/program.safetensors").write_bytes(b"x")
    write_manifest(folder)
    return folder


def test_force_replaces_what_vitgraph_wrote(tmp_path: Path) -> None:
    out = output(tmp_path / "out")
    with pytest.raises(InputError, match="exists; name another with -o, or replace it with --force"):
        check_folder(out, force=False)
    assert check_folder(out, force=True) == out
    (tmp_path / "empty").mkdir()
    assert check_folder(tmp_path / "empty", force=True) == tmp_path / "empty"


@pytest.mark.parametrize("inside", ["out", "out/program", "out/program/program.safetensors", "link"])
def test_an_input_inside_is_never_replaced(inside: str, tmp_path: Path) -> None:
    out = output(tmp_path / "out")
    (tmp_path / "link").symlink_to(out / "program")
    with pytest.raises(InputError, match=r"the input .* lies in it"):
        check_folder(out, force=True, inputs=[tmp_path / inside])
    assert check_folder(out, force=True, inputs=[tmp_path]) == out, "an output may lie in a folder of inputs"


def test_neither_is_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(output(tmp_path / "out") / "program")
    for out in (Path(".."), Path(), tmp_path / "out"):
        with pytest.raises(InputError, match=r"the current folder .* lies in it"):
            check_folder(out, force=True)


@pytest.mark.parametrize("name", ["o\0ut", "o\udcffut"])
@pytest.mark.parametrize("check", [check_file, check_folder])
def test_names_that_are_none(name: str, check: Callable[[Path, bool], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ut'?: is no name of a file .* name another with -o"):
        check(tmp_path / name, False)


def test_links_are_followed(tmp_path: Path) -> None:
    out = output(tmp_path / "out")
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "file").write_text("x")
    (tmp_path / "to file").symlink_to(tmp_path / "file")
    assert check_folder(tmp_path / "link", force=True) == out
    assert check_folder(tmp_path / "link/new", force=False) == out / "new"
    assert check_file(tmp_path / "to file", force=True) == tmp_path / "file"


def test_nothing_is_left_by_a_check(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "a/b/out", force=False) == tmp_path / "a/b/out"
    assert list(tmp_path.iterdir()) == []


def test_the_hidden_place_is_beside_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there/out")
    assert parts_of(tmp_path / "link").parent == unfinished(tmp_path / "there/out")
