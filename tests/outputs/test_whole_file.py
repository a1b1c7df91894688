"""Files that appear whole or not at all, and never in place of something else."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vitgraph.errors import InputError, MachineError, OutputError
from vitgraph.outputs.whole_file import write_whole


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("old")
    (tmp_path / "link").symlink_to("there")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_text() == "new"


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(InputError, match="name a file"):
            write_whole(tmp_path / name, b"new")
    assert (tmp_path / "fifo").is_fifo()


@pytest.mark.parametrize("links", [True, False])
def test_what_appears_meanwhile_stays(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    write_whole(tmp_path / "new", b"new", replace=False)
    with pytest.raises(OutputError, match="new-2 has what was made"):
        write_whole(tmp_path / "new", b"newer", replace=False)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"new": b"new", "new-2": b"newer"}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_what_is_replaced_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("secret")
    file.chmod(mode)
    write_whole(file, b"newer")
    assert (stat.S_IMODE(file.stat().st_mode), file.read_bytes()) == (mode, b"newer")


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / ".file.unfinished").touch(0o600)
    (tmp_path / "usual").touch()
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_under_the_hidden_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("mine")
    (tmp_path / ".file.unfinished").symlink_to("thesis")
    with pytest.raises(InputError, match=r"file: it is made in \S+\.file\.unfinished, which is a link; remove that"):
        write_whole(tmp_path / "file", b"new")
    (tmp_path / ".file.unfinished").unlink()
    os.mkfifo(tmp_path / ".file.unfinished")
    with pytest.raises(InputError, match="which is no regular file"):
        write_whole(tmp_path / "file", b"new")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".file.unfinished", "thesis"]


def test_another_name_of_a_file_is_not_written_to(tmp_path: Path) -> None:
    """As a run leaves it that was killed once the file had its name and before the hidden one was gone."""
    (tmp_path / "other").write_text("mine")
    os.link(tmp_path / "other", tmp_path / ".file.unfinished")
    write_whole(tmp_path / "file", b"new")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"file": b"new", "other": b"mine"}


def test_what_a_killed_run_left_is_used_up(tmp_path: Path) -> None:
    (tmp_path / ".file.unfinished").write_bytes(b"half of something longer")
    write_whole(tmp_path / "file", b"new")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"file": b"new"}


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_told(call: str, fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(fault, os.strerror(fault))

    (tmp_path / "file").write_text("old")
    kind = InputError if fault in (errno.EROFS, errno.EFBIG) else MachineError
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(kind, match=rf"file: can't be written: {os.strerror(fault)}; \w+"):
            write_whole(tmp_path / "file", b"new")
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"file": "old"}


def test_many_processes_write_one_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vitgraph.outputs.whole_file import write_whole\n"
        "[write_whole(Path('file'), sys.argv[1].encode() * 100_000) for _ in range(20)]"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, letter], cwd=tmp_path) for letter in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(set((tmp_path / "file").read_text())) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
