"""Files and folders that are needed for a while only; they lie in the system's temporary folder, which TMPDIR names."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from vitgraph.errors import blamed

_log = logging.getLogger("vitgraph")
PREFIX = "vitgraph-scratch-"
_OURS = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")
YOUNG = 60.0
"""Seconds for which a folder is left alone: its process may not have locked it yet."""


class ScratchFolder:
    """A folder of this process alone, gone when it is closed. What killed processes left goes when the next one is made.

    The system lets go of its lock however a process ends, so a folder that nobody has locked is nobody's.
    """

    def __init__(self) -> None:
        with in_temporary_folder():
            _sweep(Path(tempfile.gettempdir()))
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock: int | None = _lock(self.path)

    def close(self) -> None:
        """Remove it with all that is in it; once more does no harm."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def scratch_file() -> IO[bytes]:
    """A file without a name, which goes when it is closed or its process ends."""
    with in_temporary_folder():
        return tempfile.TemporaryFile()


@contextmanager
def in_temporary_folder() -> Generator[None]:
    """Tell an `OSError` of the block with its remedy: as a `MachineError` where the disk is full, else as an `InputError`."""
    try:
        yield
    except OSError as error:
        where = tempfile.tempdir or os.environ.get("TMPDIR", "the system's own")
        raise blamed(error)(
            f"temporary folder {where}: {error.strerror or error}; make room there, or name another folder in TMPDIR"
        ) from error


def _sweep(folder: Path) -> None:
    for each in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if _OURS.fullmatch(each.name) and _is_left(each):
                _log.info("%s: left by a run that was killed; removed", each)
                shutil.rmtree(each)


def _is_left(folder: Path) -> bool:
    """Whether the folder is of this user, and of no process that lives."""
    found = folder.lstat()
    if found.st_uid != os.geteuid() or time.time() - found.st_mtime < YOUNG:
        return False
    os.close(_lock(folder))  # `OSError` where it is no folder, or somebody has it
    return True


def _lock(folder: Path) -> int:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle
