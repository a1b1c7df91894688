"""What is needed for a while only: it goes, also where the process that made it was killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitgraph.errors import InputError
from vitgraph.outputs.scratch import YOUNG, ScratchFolder, scratch_file


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def age(folder: Path) -> None:
    then = time.time() - YOUNG - 1
    os.utime(folder, (then, then))


def test_it_goes_when_it_is_closed(temporary: Path) -> None:
    with ScratchFolder() as folder:
        (folder / "model.onnx").write_text("x")
    closed = ScratchFolder()
    closed.close()
    closed.close()
    assert list(temporary.iterdir()) == []


def test_what_killed_processes_left_goes_and_nothing_else(temporary: Path) -> None:
    code = "import os; from vitgraph.outputs.scratch import ScratchFolder as S; S().path.joinpath('x').touch(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    (left,) = temporary.iterdir()
    (temporary / "vitgraph-scratch-thesis").mkdir()
    (temporary / "vitgraph-scratch-12345678").symlink_to("vitgraph-scratch-thesis")
    for each in temporary.iterdir():
        age(each)
    with ScratchFolder() as folder:
        assert not left.exists()
        age(folder)
        with ScratchFolder():
            assert folder.exists(), "it is in use"
    assert {each.name for each in temporary.iterdir()} == {"vitgraph-scratch-thesis", "vitgraph-scratch-12345678"}


def test_a_young_one_may_not_be_locked_yet(temporary: Path) -> None:
    (temporary / "vitgraph-scratch-12345678").mkdir()
    with ScratchFolder():
        assert (temporary / "vitgraph-scratch-12345678").exists()


@pytest.mark.parametrize("make", [ScratchFolder, scratch_file])
def test_no_place_for_them_is_told(make: type[ScratchFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    with pytest.raises(
        InputError, match=r"temporary folder /proc: .*; make room there, or name another folder in TMPDIR"
    ):
        make()
