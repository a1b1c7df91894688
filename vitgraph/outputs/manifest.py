"""`manifest.json`: which files of a folder vitgraph wrote, with their sizes and digests; what else is there is the user's.

The same files have the same manifest. A file that holds times is another one on every run, in its numbers alone: of such a file
the manifest has the digest of the text with every number as 0.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

NAME = "manifest.json"
FORMAT = "vitgraph output 1"
_LIMIT = 1 << 20
"""Bytes of the largest manifest that is read: one of ours has a few hundred for each of a dozen files."""
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_CHUNK = 1 << 20


def write_manifest(folder: Path, timed: Collection[str] = ()) -> None:
    """Write the manifest of a finished folder; `timed` are the names of text files that hold times."""
    files = {name: _entry(folder / name, name in timed) for name in sorted(_files(folder))}
    text = json.dumps({"format": FORMAT, "files": files}, indent=1)
    (folder / NAME).write_text(f"{text}\n", encoding="utf-8")


def timed_files(folder: Path) -> set[str]:
    """The files that hold times, as the folder's manifest says."""
    found = _read(folder) or {}
    return {name for name, entry in found.items() if isinstance(entry, dict) and "sha256_without_numbers" in entry}


def differences(folder: Path) -> list[str]:
    """What in the folder is not as its manifest says, by name; empty for an empty folder. A file that is gone is no loss."""
    files, folders = _files(folder), _folders(folder)
    if not files and not folders:
        return []
    found = _read(folder)
    listed, ours = found or {}, set[str]() if found is None else {NAME, *found}
    parents = {str(parent) for name in ours for parent in Path(name).parents}
    foreign = [name for name in files if name not in ours] + [f"{name}/" for name in folders if name not in parents]
    changed = [name for name in files if name in listed and not _same(folder / name, listed[name])]
    return sorted(foreign) + [f"{name} (changed)" for name in sorted(changed)]


def _read(folder: Path) -> dict[str, Any] | None:
    """The entries by file; None where there is no manifest of ours."""
    if not (folder / NAME).is_file():  # a FIFO would have us wait
        return None
    try:
        with (folder / NAME).open("rb") as file:
            found: Any = json.loads(file.read(_LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT:  # pyright: ignore[reportUnknownMemberType]
        return None
    files: Any = found.get("files")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return files if isinstance(files, dict) else None  # pyright: ignore[reportUnknownVariableType]


def _files(folder: Path) -> list[str]:
    """Everything below the folder that is no folder, as a path within it; links are not followed."""
    return [
        Path(place, name).relative_to(folder).as_posix()
        for place, folders, files in os.walk(folder)
        for name in [*files, *(each for each in folders if Path(place, each).is_symlink())]
    ]


def _folders(folder: Path) -> list[str]:
    return [
        Path(place, name).relative_to(folder).as_posix()
        for place, folders, _ in os.walk(folder)
        for name in folders
        if not Path(place, name).is_symlink()
    ]


def _entry(file: Path, timed: bool) -> dict[str, Any]:
    if timed:
        return {"sha256_without_numbers": hashlib.sha256(_NUMBER.sub(b"0", file.read_bytes())).hexdigest()}
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
    return {"bytes": file.stat().st_size, "sha256": digest.hexdigest()}


def _same(file: Path, entry: Any) -> bool:
    """Whether the file is a regular one and as the manifest says; sizes are compared first, they cost nothing."""
    if not isinstance(entry, dict) or file.is_symlink() or not file.is_file():
        return False
    timed = "sha256_without_numbers" in entry
    if not timed and entry.get("bytes") != file.stat().st_size:  # pyright: ignore[reportUnknownMemberType]
        return False
    return _entry(file, timed) == entry
