"""The hidden folder beside an output: one process at a time, and whatever moment a process is killed at."""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from vitgraph.errors import InputError
from vitgraph.outputs import workspace
from vitgraph.outputs.destination import check_folder
from vitgraph.outputs.exchange import exchange
from vitgraph.outputs.manifest import differences
from vitgraph.outputs.whole_folder import whole_folder
from vitgraph.outputs.workspace import claimed, parts_of

STEPS = ((os, "rename"), (os, "mkdir"), (os, "rmdir"), (os, "unlink"), (workspace, "exchange"))
KILLED = 9


def write(out: Path, text: str, force: bool = True) -> None:
    """An output of two files, with a part finished on the way."""
    with whole_folder(out, force) as folder:
        parts_of(out).mkdir(exist_ok=True)
        (parts_of(out) / "1.part").write_text(text)
        (folder / "program").mkdir()
        for name in ("model", "program/graph"):
            (folder / name).write_text(text)


def content(out: Path) -> str:
    """Which output it is; whole, or this fails."""
    assert differences(out) == []
    (text,) = {(out / name).read_text() for name in ("model", "program/graph")}
    return text


def killed_at(step: int, work: Callable[[], None]) -> bool:
    """Do the work in a process that ends, without a chance to clean up, ahead of its change number `step` to the disk."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) in (0, KILLED)
        return os.waitstatus_to_exitcode(status) == KILLED
    code = 1
    try:
        _arm(step)
        work()
        code = 0
    finally:
        os._exit(code)


def _arm(step: int) -> None:
    numbers = count()

    def counted(real: Any) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            if next(numbers) == step:
                os._exit(KILLED)
            return real(*given, **more)

        return call

    for home, name in STEPS:
        setattr(home, name, counted(getattr(home, name)))


def forget(handle: int) -> None:
    """Sync nothing."""


def keep_apart(*_: Path) -> bool:
    """A file system on which no two names change places."""
    return False


@pytest.mark.parametrize(("former", "exchanges"), [(None, True), ("old", True), ("old", False)])
def test_killed_at_any_moment_nothing_is_lost(
    former: str | None,
    exchanges: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not exchanges:
        monkeypatch.setattr(workspace, "exchange", keep_apart)
    monkeypatch.setattr(os, "fsync", forget)  # a killed process loses nothing that it has written
    told, ever_kept, step = 0, False, 0
    for step in count():
        out = tmp_path / str(step) / "out"
        if former is not None:
            write(out, former)
        killed = killed_at(step, lambda out=out: write(out, "new"))  # type: ignore[misc]
        assert not (former and exchanges) or content(out) in (former, "new"), "there is an output at every moment"
        with claimed(out) as place:
            found = content(out) if out.exists() else None
            assert found in (former, "new")
            kept = place.parts.exists()
        assert kept or not ever_kept or found == "new", "a finished part is gone on from until the output is there"
        ever_kept |= kept
        told += "an earlier run did not end" in caplog.text
        caplog.clear()
        write(out, "again")
        assert content(out) == "again"
        assert [each.name for each in out.parent.iterdir()] == ["out"]
        if not killed:
            break
    assert ever_kept
    assert step > 12
    assert told > 4


def test_another_process_is_told_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vitgraph.outputs.whole_folder import whole_folder\n"
        "with whole_folder(Path(sys.argv[1]), True): print('here', flush=True); sys.stdin.read()"
    )
    out = tmp_path / "out"
    words = [sys.executable, "-O", "-c", code, str(out)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(InputError, match=rf"is being written by process {other.pid}; wait for it"):
            write(out, "mine")
        (tmp_path / ".out.unfinished/lock").write_text("")
        with pytest.raises(InputError, match="is being written by another process; wait for it"):
            write(out, "mine")
        other.communicate("")
    assert list(out.iterdir()) == [out / "manifest.json"]
    write(out, "mine")
    assert content(out) == "mine"


def test_what_is_of_others_in_the_hidden_folder_stays(tmp_path: Path) -> None:
    (tmp_path / ".out.unfinished").mkdir()
    (tmp_path / ".out.unfinished/mine").write_text("x")
    write(tmp_path / "out", "new")
    assert (tmp_path / ".out.unfinished/mine").read_text() == "x"


def end_once_exchanged(*names: Path) -> bool:
    assert exchange(*names)
    os._exit(KILLED)


def test_what_came_into_the_former_output_is_kept_whenever_it_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write(out, "old")
    with monkeypatch.context() as patch:
        patch.setattr(workspace, "exchange", end_once_exchanged)
        assert killed_at(-1, lambda: write(out, "new"))
    assert content(out) == "new"
    (tmp_path / ".out.unfinished/folder/thesis").write_text("mine")
    with claimed(out) as place:
        assert not place.parts.exists(), "what is done is not gone on from"
    assert (tmp_path / "out-2/thesis").read_text() == "mine"
    assert "what was there before is kept in" in caplog.text
    assert content(out) == "new"


@pytest.mark.parametrize("planted", ["link", "file"])
def test_nothing_but_a_folder_is_taken_for_the_hidden_one(planted: str, tmp_path: Path) -> None:
    (tmp_path / "victim/folder").mkdir(parents=True)
    (tmp_path / "victim/folder/thesis").write_text("mine")
    hidden = tmp_path / ".out.unfinished"
    hidden.symlink_to("victim") if planted == "link" else hidden.write_text("mine")
    for work in (lambda: check_folder(tmp_path / "out", force=False), lambda: write(tmp_path / "out", "new")):
        with pytest.raises(
            InputError, match=r"out: it is made in \S+unfinished, which is (a link|no folder); remove that"
        ):
            work()
    assert [each.name for each in (tmp_path / "victim/folder").iterdir()] == ["thesis"]
    assert os.path.lexists(hidden)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_neither_is_the_folder_of_another_user(tmp_path: Path) -> None:
    (tmp_path / ".out.unfinished/folder").mkdir(parents=True)
    os.chown(tmp_path / ".out.unfinished", 12345, 12345)
    with pytest.raises(InputError, match=r"which belongs to another user; remove that, or name another with -o"):
        write(tmp_path / "out", "new")
    assert (tmp_path / ".out.unfinished/folder").is_dir()
