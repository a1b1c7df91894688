"""A finished folder of which some files are written anew: the new one appears whole, or the former one stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from vitgraph.outputs.destination import check_folder
from vitgraph.outputs.disk import room_for, sync_tree, writing
from vitgraph.outputs.manifest import NAME, timed_files, write_manifest
from vitgraph.outputs.workspace import claimed


@contextmanager
def revised_folder(out: Path) -> Generator[Path]:
    """A copy of `out`, a folder of ours, that takes its place, with a manifest, when the block ends well; it is gone when it does not.

    Its files are links to those of `out` where the file system has such, so they are replaced (`write_whole`) and never written to.
    Raises `InputError` where `out` holds what was not written by vitgraph, can't be written, or is being written by another process.
    """
    with room_for(out), claimed(check_folder(out, force=True)) as place:
        check_folder(out, force=True)  # again: whoever had the place until now may have written it
        with writing(out):
            shutil.copytree(place.out, place.folder, copy_function=_link, symlinks=True)
        timed = timed_files(place.folder)
        (place.folder / NAME).unlink(missing_ok=True)
        yield place.folder
        with writing(out):
            write_manifest(place.folder, timed)
            sync_tree(place.folder)
            place.put(force=True)


def _link(source: str, copy: str) -> str:
    """The same file under a second name; a copy where the file system has no hard links."""
    try:
        os.link(source, copy)
    except OSError:
        shutil.copy2(source, copy)
    return copy
