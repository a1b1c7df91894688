"""What is found under the hidden name beside an output: used only where it is no link, and of the user that vitgraph runs as.

Whoever may write to a folder may put a link under that name ahead of us, and have us remove or overwrite what it leads to.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from vitgraph.errors import InputError


def check_hidden(path: Path, out: Path, folder: bool) -> None:
    """Raise `InputError` where there is something at `path` that is not ours; `out` is the output that is made there."""
    with suppress(FileNotFoundError):
        _refuse_foreign(path, out, path.lstat(), folder)


def open_hidden(path: Path, out: Path, folder: bool) -> int:
    """A handle of what a run has left, or works in; `InputError` where it is not ours, `FileNotFoundError` where nothing is there."""
    check_hidden(path, out, folder)
    kind = os.O_RDONLY | os.O_DIRECTORY if folder else os.O_RDWR | os.O_NONBLOCK
    handle = os.open(path, kind | os.O_NOFOLLOW)
    try:
        _refuse_foreign(path, out, os.fstat(handle), folder)  # again: it may have been changed since
    except BaseException:
        os.close(handle)
        raise
    return handle


def _refuse_foreign(path: Path, out: Path, found: os.stat_result, folder: bool) -> None:
    fault = _fault(path, found.st_mode, found.st_uid, folder)
    if fault is not None:
        raise InputError(f"output {out}: it is made in {path}, which {fault}; remove that, or name another with -o")


def _fault(path: Path, mode: int, owner: int, folder: bool) -> str | None:
    if stat.S_ISLNK(mode):
        return "is a link"
    if folder and not stat.S_ISDIR(mode):
        return "is no folder"
    if not folder and not stat.S_ISREG(mode):
        return "is no regular file"
    return None if owner == _owner_of_new_files(path.parent) else "belongs to another user"


def _owner_of_new_files(folder: Path) -> int:
    """Who owns what this process makes there: not its user where a file system has users of its own (a share, a squashed root)."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_uid
