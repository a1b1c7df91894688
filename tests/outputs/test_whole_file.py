"""Files that appear whole or not at all, and never in place of something else."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vitgraph.errors import InputError, OutputError
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


def test_what_a_killed_run_left_is_used_up(tmp_path: Path) -> None:
    (tmp_path / ".file.unfinished").write_bytes(b"half of something longer")
    write_whole(tmp_path / "file", b"new")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"file": b"new"}


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_told(call: str, fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(fault, os.strerror(fault))

    (tmp_path / "file").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(InputError, match=rf"file: can't be written: {os.strerror(fault)}; \w+"):
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
