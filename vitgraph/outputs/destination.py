"""Where an output goes: links followed, and everything refused early that can't be written, or that `--force` must not replace."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vitgraph.errors import InputError
from vitgraph.outputs.disk import writing
from vitgraph.outputs.hidden import check_hidden
from vitgraph.outputs.manifest import differences


def unfinished(out: Path) -> Path:
    """The hidden folder (for a file: file) beside an output in which it is made; `out` is where it really goes, no link."""
    return out.with_name(f".{out.name}.unfinished") if out.name else out / ".unfinished"


def check_folder(out: Path, force: bool, inputs: Iterable[Path] = ()) -> Path:
    """The folder that `out` names. `InputError` if it can't be written, is there (without `force`), or may not be replaced.

    `force` replaces an empty folder, and one whose manifest lists all that is in it; never one that an input lies in.
    """
    folder = _resolve(out)
    _refuse_around(out, folder, [Path.cwd()], "the current folder")
    if os.path.lexists(folder):
        if not folder.is_dir():
            raise InputError(f"output {out} exists and is {_kind(folder)}; name a folder")
        if not force:
            raise InputError(f"output {out} exists; name another with -o, or replace it with --force")
        _refuse_around(out, folder, inputs, "the input")
        _refuse_foreign(out, folder)
    with writing(out):
        check_hidden(unfinished(folder), out, folder=True)
    _try_to_write(out, folder)
    return folder


def check_file(out: Path, force: bool) -> Path:
    """The file that `out` names. `InputError` if it can't be written, is there (without `force`), or is no regular file."""
    file = regular_file(out)
    if os.path.lexists(file) and not force:
        raise InputError(f"output {out} exists; name another, or replace it with --force")
    if not file.parent.is_dir():
        raise InputError(f"output {out}: there is no folder {file.parent}; make it, or name another")
    with writing(out):
        check_hidden(unfinished(file), out, folder=False)
    _try_to_write(out, file)
    return file


def regular_file(out: Path) -> Path:
    """The file that `out` leads to; `InputError` where there is anything but a regular file."""
    file = _resolve(out)
    if file.is_dir():
        raise InputError(f"output {out} is a folder; name a file")
    if os.path.lexists(file) and not file.is_file():
        raise InputError(f"output {out} is {_kind(file)}, which is never replaced; name a file")
    return file


def _resolve(out: Path) -> Path:
    """The place that `out` leads to, whose name is good and long enough for what is put beside it while it is made."""
    try:
        str(out).encode()
        real = Path(os.path.realpath(out))
        with writing(out):
            dangling = out.is_symlink() and not os.path.exists(out)
            with suppress(FileNotFoundError):
                unfinished(real).lstat()  # raises where a name is too long, or a part of the path is a file
    except ValueError as error:  # a null byte, or bytes that are no text
        raise InputError(f"output {str(out)!r}: is no name of a file ({error}); name another with -o") from error
    if dangling:
        raise InputError(f"output {out} is a link that leads nowhere ({os.readlink(out)}); remove it, or name another")
    return real


def _kind(path: Path) -> str:
    """What stands there in place of a folder or a regular file."""
    kinds = {
        "a file": path.is_file,
        "a FIFO": path.is_fifo,
        "a socket": path.is_socket,
        "a device": path.is_char_device,
        "a disk": path.is_block_device,
    }
    return next((kind for kind, holds in kinds.items() if holds()), "no regular file")


def _refuse_around(out: Path, folder: Path, inside: Iterable[Path], what: str) -> None:
    """Raise `InputError` where one of `inside` is `folder` or lies in it: it would go when the folder is replaced."""
    for each in inside:
        real = Path(os.path.realpath(each))
        if folder == real or folder in real.parents:
            raise InputError(f"output {out}: {what} {each} lies in it; name another with -o")


def _refuse_foreign(out: Path, folder: Path) -> None:
    """Raise `InputError` naming what in the folder is not as vitgraph wrote it."""
    found = differences(folder)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise InputError(
            f"output {out} exists and holds what was not written by vitgraph: {', '.join(found[:3])}{more};"
            " --force replaces only what was: move that away, or name another with -o"
        )


def _try_to_write(out: Path, real: Path) -> None:
    """Raise `InputError` where the folder that `out` is in, or the nearest one that is there, can't be written to."""
    nearest = next(each for each in real.parents if os.path.exists(each))
    with writing(out), tempfile.TemporaryFile(dir=nearest) as file:
        file.write(b"0")
