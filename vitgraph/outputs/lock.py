"""The lock of an output's hidden folder: the system lets go of it however its process ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from vitgraph.errors import InputError
from vitgraph.outputs.hidden import open_hidden

NAME = "lock"


def lock(root: Path, out: Path) -> int:
    """The number of the open file that holds the lock of the folder `root`, which is made if need be.

    Raises `InputError` where another process has it, and where the folder is not ours.
    """
    while True:
        try:
            handle = _open(root, out)
        except FileNotFoundError:  # a run that ended has just removed the folder
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(handle, 20).decode(errors="replace")
            os.close(handle)
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise InputError(f"output {out} is being written by {who}; wait for it, or name another with -o") from error
        if same_file(handle, root / NAME):
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            return handle
        os.close(handle)


def _open(root: Path, out: Path) -> int:
    with suppress(FileExistsError):
        root.mkdir()
    try:
        folder = open_hidden(root, out, folder=True)
        try:
            return os.open(NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644, dir_fd=folder)
        finally:
            os.close(folder)
    except FileNotFoundError:
        raise
    except OSError:  # no room, most likely
        with suppress(OSError):
            root.rmdir()
        raise


def same_file(handle: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
