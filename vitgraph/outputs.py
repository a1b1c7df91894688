"""What a command leaves, a file or a folder: checked before the work, and there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from vitgraph.errors import InputError


def check_output(out: Path, force: bool) -> None:
    """Can `out` be written? `InputError` if it exists (without `force`) or its folder can't be written to."""
    if out.exists() and not force:
        raise InputError(f"output {out} exists; name another with -o, or replace it with --force")
    written = any((out / name).exists() for name in ("report.json", "search.json"))
    if out.exists() and not written and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"output {out} exists and was not written by vitgraph; --force replaces only what was")
    parent = out.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise InputError(
            f"output {out}: its folder can't be written to: {error.strerror}; name another with -o"
        ) from error


def unfinished(out: Path) -> Path:
    """The folder beside `out` in which long work keeps what it has finished, until `out` is there."""
    return out.absolute().parent / f".{out.name}.unfinished"


@contextmanager
def whole_folder(out: Path, force: bool) -> Generator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and is gone when it does not."""
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.absolute().parent))
    try:
        yield folder
        folder.chmod(0o755)
        if out.exists():
            assert force
            old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.absolute().parent))
            out.rename(old / "out")
            folder.rename(out)
            shutil.rmtree(old)
        else:
            folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there, so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
