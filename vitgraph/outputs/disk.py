"""What a disk refuses, told as a user needs it; and seeing to it that a disk has what it was given."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from vitgraph.errors import OF_THE_MACHINE, VitgraphError, blamed

_OF_THE_PLACE = {
    errno.EFBIG: "raise the limit on the size of a file, or name a place on another disk",
    errno.EROFS: "name a place on a disk that can be written to",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.ENOTDIR: "a part of the path is a file: name another place",
    errno.ELOOP: "its links lead in a circle: name another place",
    errno.EACCES: "get the right to write there, or name another place",
    errno.EPERM: "get the right to write there, or name another place",
}
"""What speaks against a place, with the remedy; `OF_THE_MACHINE` has the rest."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_WRITING_ALONE = _NO_ROOM | {errno.EFBIG, errno.EROFS, errno.ENAMETOOLONG}
"""What only writing runs into."""


@contextmanager
def writing(path: Path, only: frozenset[int] | None = None) -> Generator[None]:
    """Tell an `OSError` of the block as `refused` does. `only` leaves other errors as they are."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        raise refused(path, error) from error


@contextmanager
def room_for(path: Path) -> Generator[None]:
    """The same for long work that writes to `path` and reads much else: only what writing alone runs into is told so."""
    with writing(path, _WRITING_ALONE):
        yield


def refused(path: Path, error: OSError) -> VitgraphError:
    """What to raise where `path` can't be written, with file, fault and remedy.

    An `InputError` where another place would do better, a `MachineError` where this one would, once it has what it lacks.
    """
    file = error.filename if isinstance(error.filename, str) else None
    where = f" ({file})" if file is not None and file != str(path) else ""
    number = error.errno or 0
    remedy = OF_THE_MACHINE.get(number) or _OF_THE_PLACE.get(number, "name another place")
    again = "; the same command then goes on from what is finished" if number in _NO_ROOM else ""
    return blamed(error)(f"output {path}: can't be written{where}: {error.strerror or error}; {remedy}{again}")


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
