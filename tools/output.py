"""Can this output be written? Asked before long work, so that nobody waits for an answer that can't be kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vitgraph.errors import InputError


def check_file(path: Path, force: bool) -> None:
    """Raise `InputError` if the file exists (without `force`), is a folder, or its folder can't be written to."""
    if path.is_dir():
        raise InputError(f"output {path} is a folder; name a file")
    if path.exists() and not force:
        raise InputError(f"output {path} exists; name another, or replace it with --force")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"output {path}: there is no folder {folder}; make it, or name another")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"output {path}: {folder} can't be written to: {error.strerror}; name another") from error
