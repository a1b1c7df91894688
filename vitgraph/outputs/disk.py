"""What a disk refuses, told as a user needs it; and seeing to it that a disk has what it was given."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from vitgraph.errors import InputError

_MORE_ROOM = "make room on that disk (bytes, or inodes), or name a place on another; the same command then goes on from what is finished"
NO_ROOM = {
    errno.ENOSPC: _MORE_ROOM,
    errno.EDQUOT: _MORE_ROOM,
    errno.EFBIG: "raise the limit on the size of a file, or name a place on another disk",
    errno.EROFS: "name a place on a disk that can be written to",
    errno.ENAMETOOLONG: "name a shorter one",
}
"""What only writing runs into, with the remedy."""
_REMEDIES = {
    **NO_ROOM,
    errno.ENOTDIR: "a part of the path is a file: name another place",
    errno.ELOOP: "its links lead in a circle: name another place",
    errno.EACCES: "get the right to write there, or name another place",
    errno.EPERM: "get the right to write there, or name another place",
}


@contextmanager
def writing(path: Path, only: frozenset[int] | None = None) -> Generator[None]:
    """Tell an `OSError` of the block as an `InputError`: the file, the fault, the remedy. `only` leaves other errors as they are."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        raise refused(path, error) from error


@contextmanager
def room_for(path: Path) -> Generator[None]:
    """The same for long work that writes to `path` and reads much else: only what writing alone runs into is told so."""
    with writing(path, frozenset(NO_ROOM)):
        yield


def refused(path: Path, error: OSError) -> InputError:
    """What to raise where `path` can't be written."""
    file = error.filename if isinstance(error.filename, str) else None
    where = f" ({file})" if file is not None and file != str(path) else ""
    remedy = _REMEDIES.get(error.errno or 0, "name another place")
    return InputError(f"output {path}: can't be written{where}: {error.strerror or error}; {remedy}")


def sync(path: Path) -> None:
    """Have the disk hold a file's content, or a folder's names, before anything is built on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """The same for a folder and everything in it."""
    for place, _, files in os.walk(folder):
        for name in files:
            sync(Path(place, name))
        sync(Path(place))
