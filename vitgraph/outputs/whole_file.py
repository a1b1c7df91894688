"""A file that appears whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitgraph.outputs.beside import keep_beside, taken
from vitgraph.outputs.destination import regular_file, unfinished
from vitgraph.outputs.disk import sync, writing
from vitgraph.outputs.hidden import open_hidden
from vitgraph.outputs.lock import same_file


def write_whole(path: Path, data: bytes, replace: bool = True) -> None:
    """Write a file beside its place and move it there, so that nobody ever sees half of it; a link stays one to what is new.

    Raises `InputError` for anything but a regular file, and where the disk refuses; `OutputError` where `replace` is False and
    there is a file: the data is beside it then.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        place = regular_file(path)
        beside = unfinished(place)
        with _opened(beside, path) as handle:
            _keep_access(handle, place)
            _write(handle, data)
            _move(beside, place, replace)
        sync(place.parent)


@contextmanager
def _opened(path: Path, out: Path) -> Generator[int]:
    """An empty file that this process alone writes; it waits for another that does. What a killed run left is dropped, not written to."""
    while True:
        try:
            handle, is_new = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                handle, is_new = open_hidden(path, out, folder=False), False
            except FileNotFoundError:  # the process that had it has just ended
                continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        if same_file(handle, path):
            if is_new:
                break
            path.unlink()
        os.close(handle)
    try:
        yield handle
    finally:
        if same_file(handle, path):
            path.unlink()
        os.close(handle)


def _keep_access(handle: int, place: Path) -> None:
    """Give the new file the owner and the mode of the one that it replaces, ahead of its content: what is private stays so."""
    with suppress(FileNotFoundError):
        former = place.stat()
        with suppress(PermissionError):
            os.fchown(handle, former.st_uid, former.st_gid)
        os.fchmod(handle, former.st_mode & 0o777)


def _write(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
    os.fsync(handle)


def _move(file: Path, place: Path, replace: bool) -> None:
    if replace:
        os.replace(file, place)
        return
    try:
        _take_name(file, place)
    except FileExistsError as error:
        raise taken(place, keep_beside(file, place)) from error


def _take_name(file: Path, place: Path) -> None:
    """Move the file to a name that nobody has, in one step; `FileExistsError` where somebody does."""
    try:
        os.link(file, place)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: have the name first, and then replace what has it
        os.close(os.open(place, os.O_CREAT | os.O_EXCL))
        os.replace(file, place)
