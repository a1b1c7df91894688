"""Folders that appear whole or not at all, and never in place of something else."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.outputs.test_workspace import content, write
from vitgraph.errors import OutputError, VitgraphError
from vitgraph.outputs.whole_folder import whole_folder
from vitgraph.outputs.workspace import parts_of


def folder_with(name: str) -> Callable[[Path], object]:
    def make(out: Path) -> None:
        out.mkdir(exist_ok=True)
        (out / name).write_text("mine")

    return make


def write_while(out: Path, force: bool, meanwhile: Callable[[Path], object]) -> None:
    """Something happens while the output is made."""
    with whole_folder(out, force) as folder:
        (folder / "model").write_text("new")
        meanwhile(out)


APPEARS: list[Callable[[Path], object]] = [
    folder_with("thesis.tex"),
    lambda out: out.write_text("mine"),
    lambda out: out.symlink_to("nowhere"),
]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("appears", APPEARS)
def test_what_appears_meanwhile_stays(appears: Callable[[Path], object], force: bool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match=r"meanwhile, and was left alone; \S+out-2 has what was made") as told:
        write_while(out, force, appears)
    assert told.value.exit_status == 1
    assert (tmp_path / "out-2/model").read_text() == "new"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "out-2"]
    assert os.path.islink(out) or "mine" in (out.read_text() if out.is_file() else (out / "thesis.tex").read_text())


def test_what_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    (tmp_path / "out").chmod(0o700)
    write(tmp_path / "out", "new")
    assert (stat.S_IMODE((tmp_path / "out").stat().st_mode), content(tmp_path / "out")) == (0o700, "new")


def test_what_is_put_into_the_output_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "old")
    (tmp_path / "out-2").write_text("taken")
    with pytest.raises(OutputError, match="out-3 has what was made"):
        write_while(out, True, folder_with("thesis.tex"))
    assert (out / "thesis.tex").read_text() == "mine"


class Full:
    """A disk that has room for so many calls that write, and no more."""

    def __init__(self, room: int, fault: int) -> None:
        self.room, self.fault = room, fault

    def limit(self, real: Any) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            self.room -= 1
            if self.room < 0:
                raise OSError(self.fault, os.strerror(self.fault))
            return real(*given, **more)

        return call


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("room", range(7))
def test_a_full_disk_leaves_the_old_output(
    room: int, fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, full = tmp_path / "out", Full(room, fault)
    write(out, "old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full.limit(Path.write_text))
        patch.setattr(os, "fsync", full.limit(os.fsync))
        with pytest.raises(VitgraphError, match=rf"output \S+out: can't be written: {os.strerror(fault)}; ") as told:
            write(out, "new")
    assert told.value.exit_status == (2 if fault == errno.EROFS else 1), "the machine gave out, or the place is wrong"
    assert content(out) == "old"
    parts = parts_of(out)
    assert sorted(each.name for each in tmp_path.iterdir()) == ([parts.parent.name] if parts.exists() else []) + ["out"]
    write(out, "new")
    assert content(out) == "new"


def interrupt(_: Path) -> None:
    raise KeyboardInterrupt


def finish_a_part_and_interrupt(out: Path) -> None:
    parts_of(out).mkdir()
    (parts_of(out) / "1.part").write_text("x")
    raise KeyboardInterrupt


def test_an_interruption_keeps_what_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write_while(out, False, finish_a_part_and_interrupt)
    assert [each.name for each in parts_of(out).parent.iterdir()] == ["parts"]


def test_folders_that_were_made_for_it_go_with_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_while(tmp_path / "a/b/out", False, interrupt)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "a/b/out", "new")
    assert content(tmp_path / "a/b/out") == "new"
