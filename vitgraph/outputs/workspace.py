"""The hidden folder beside an output in which one process at a time makes it.

.OUT.unfinished/lock     held for as long as the process lives: the system lets go of it however that ends
.OUT.unfinished/parts/   finished parts of long work, to go on from
.OUT.unfinished/folder/  the output on its way, no use to a later run
.OUT.unfinished/spent/   while the output takes its place: what is superfluous once it is there

Where the system can, the output and the former one change places in one step; `folder` is the former one then. A mark in `spent`
has the number of the new one's inode in its name, so that a later run can tell which of the two `folder` is.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vitgraph.outputs.beside import keep_beside, taken
from vitgraph.outputs.destination import unfinished
from vitgraph.outputs.disk import sync, writing
from vitgraph.outputs.exchange import exchange
from vitgraph.outputs.lock import NAME as LOCK
from vitgraph.outputs.lock import lock
from vitgraph.outputs.manifest import differences

_log = logging.getLogger("vitgraph")
_MARK = "new "


@dataclass(frozen=True)
class Workspace:
    """Where an output is made."""

    out: Path
    """As `check_folder` returns it."""

    @property
    def root(self) -> Path:
        """The hidden folder."""
        return unfinished(self.out)

    @property
    def parts(self) -> Path:
        """Where checkpoints are kept."""
        return self.root / "parts"

    @property
    def folder(self) -> Path:
        """Where the output is written."""
        return self.root / "folder"

    @property
    def spent(self) -> Path:
        """What the finished output makes superfluous: the former one, and the parts."""
        return self.root / "spent"

    def recover(self) -> None:
        """Set right, and tell, what a run left that was killed."""
        self._settle()
        left = ["half-written files are removed"] if self.folder.exists() else []
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.parts.exists() and any(self.parts.iterdir()):
            left.append("what it finished is gone on from, where it is of the same work")
        if left:
            _log.warning("output %s: an earlier run did not end: %s", self.out, "; ".join(left))

    def put(self, force: bool) -> None:
        """Let the folder take the output's place, in one step; with `force` a former output goes, and its mode stays.

        Where the file system can't let them change places, the former one is moved away first: there is no output for that moment,
        and a later run puts the former one back where the process was killed in it. Raises `OutputError` where something is there that must not go; the finished folder is kept beside then.
        """
        self.spent.mkdir()
        with suppress(FileNotFoundError):
            self.parts.rename(self.spent / "parts")
        if force and _is_ours(self.out):
            self.folder.chmod(stat.S_IMODE(self.out.stat().st_mode))
            if self._exchange():
                return
            self.out.rename(self.spent / "out")
        try:
            if os.path.lexists(self.out):
                raise FileExistsError
            self.folder.rename(self.out)  # raises where a folder with content has come there since
        except OSError as error:
            if not os.path.lexists(self.out):
                raise
            raise taken(self.out, keep_beside(self.folder, self.out)) from error
        sync(self.out.parent)

    def leave(self) -> None:
        """Remove what is of no use to a later run, while it is still this process that has the place."""
        with suppress(OSError):
            self._settle()
        shutil.rmtree(self.folder, ignore_errors=True)
        for remove in (self.parts.rmdir, (self.root / LOCK).unlink, self.root.rmdir):
            with suppress(OSError):  # parts stay, and so does the folder that they are in
                remove()

    def _exchange(self) -> bool:
        """Whether folder and output have changed places."""
        mark = self.spent / f"{_MARK}{self.folder.stat().st_ino}"
        mark.mkdir()
        if not exchange(self.folder, self.out):
            mark.rmdir()
            return False
        sync(self.out.parent)
        return True

    @property
    def _is_exchanged(self) -> bool:
        """Whether `folder` is the former output."""
        marks = [each.name for each in self.spent.glob(f"{_MARK}*")]
        return bool(marks) and os.path.lexists(self.folder) and marks != [f"{_MARK}{self.folder.lstat().st_ino}"]

    def _settle(self) -> None:
        """Undo a `put` that was cut short ahead of its one step, finish one that was cut short after it."""
        if self._is_exchanged:
            self.folder.rename(self.spent / "out")
        former, parts = self.spent / "out", self.spent / "parts"
        ahead = self.folder.exists()
        if ahead and parts.exists():
            parts.rename(self.parts)
        there = os.path.lexists(former)
        if there and not os.path.lexists(self.out):
            former.rename(self.out)
        elif there and (ahead or not _is_ours(former)):  # it has got content since it was looked at
            _log.warning("output %s: what was there before is kept in %s", self.out, keep_beside(former, self.out))
        shutil.rmtree(self.spent, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder in which everything is as vitgraph wrote it."""
    return folder.is_dir() and not folder.is_symlink() and not differences(folder)


@contextmanager
def claimed(out: Path) -> Generator[Workspace]:
    """Have the workspace of an output; `InputError` where another process has it."""
    place = Workspace(out)
    with _folders_of(out):
        with writing(out):
            handle = lock(place.root, out)
        try:
            with writing(out):
                place.recover()
            yield place
        finally:
            place.leave()
            os.close(handle)


@contextmanager
def _folders_of(out: Path) -> Generator[None]:
    """The folders that `out` is in, made where they are missing; those go again that nothing came into."""
    missing = [each for each in out.parents if not each.exists()]
    try:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with suppress(OSError):
            for each in missing:
                each.rmdir()


def parts_of(out: Path) -> Path:
    """The folder in which long work keeps what it has finished, until `out` is there."""
    return Workspace(Path(os.path.realpath(out))).parts
