"""The hidden folder beside an output in which one process at a time makes it.

.OUT.unfinished/lock     held for as long as the process lives: the system lets go of it however that ends
.OUT.unfinished/parts/   finished parts of long work, to go on from
.OUT.unfinished/folder/  the output on its way, no use to a later run
.OUT.unfinished/spent/   while the output takes its place: what is superfluous once it is there
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vitgraph.errors import InputError, OutputError
from vitgraph.outputs.destination import unfinished
from vitgraph.outputs.disk import sync, writing
from vitgraph.outputs.manifest import differences

_log = logging.getLogger("vitgraph")


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
        """Let the folder take the output's place, in one step.

        Raises `OutputError` where something is there that must not go; the finished folder is kept beside then.
        """
        self.spent.mkdir()
        with suppress(FileNotFoundError):
            self.parts.rename(self.spent / "parts")
        if force and self.out.is_dir() and not differences(self.out):
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
        for remove in (self.parts.rmdir, (self.root / "lock").unlink, self.root.rmdir):
            with suppress(OSError):  # parts stay, and so does the folder that they are in
                remove()

    def _settle(self) -> None:
        """Undo a `put` that was cut short ahead of its one step, finish one that was cut short after it."""
        former, parts = self.spent / "out", self.spent / "parts"
        ahead = self.folder.exists()
        if ahead and parts.exists():
            parts.rename(self.parts)
        if former.exists() and not os.path.lexists(self.out):
            former.rename(self.out)
        elif former.exists() and (ahead or differences(former)):  # it has got content since it was looked at
            _log.warning("output %s: what was there before is kept in %s", self.out, keep_beside(former, self.out))
        shutil.rmtree(self.spent, ignore_errors=True)


@contextmanager
def claimed(out: Path) -> Generator[Workspace]:
    """Have the workspace of an output; `InputError` where another process has it."""
    place = Workspace(out)
    with _folders_of(out):
        with writing(out):
            lock = _lock(place.root, out)
        try:
            with writing(out):
                place.recover()
            yield place
        finally:
            place.leave()
            os.close(lock)


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


def taken(out: Path, kept: Path) -> OutputError:
    """What to raise where something stands in an output's place that was not there when the work began."""
    return OutputError(f"output {out} has come to be there meanwhile, and was left alone; {kept} has what was made")


def keep_beside(path: Path, out: Path) -> Path:
    """Move a file or folder to the first free name beside `out`."""
    number = 1
    while True:
        number += 1
        kept = out.with_name(f"{out.name}-{number}")
        if os.path.lexists(kept):
            continue
        path.rename(kept)
        return kept


def _lock(root: Path, out: Path) -> int:
    """The lock of a workspace, which is made if need be; the number of the open file that holds it."""
    while True:
        root.mkdir(exist_ok=True)
        try:
            lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:  # a run that ended has just removed the folder
            continue
        except OSError:
            with suppress(OSError):
                root.rmdir()
            raise
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(lock, 20).decode(errors="replace")
            os.close(lock)
            raise InputError(f"output {out} is being written by another process ({owner}); wait for it, or name another with -o") from error  # fmt: skip
        if same_file(lock, root / "lock"):
            os.ftruncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
            return lock
        os.close(lock)


def same_file(handle: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
