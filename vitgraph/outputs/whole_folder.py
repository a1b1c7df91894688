"""A folder that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path

from vitgraph.outputs.destination import check_folder
from vitgraph.outputs.disk import room_for, sync_tree, writing
from vitgraph.outputs.manifest import write_manifest
from vitgraph.outputs.workspace import claimed


@contextmanager
def whole_folder(out: Path, force: bool, timed: Collection[str] = ()) -> Generator[Path]:
    """A folder beside `out` that takes its place, with a manifest, when the block ends well; it is gone when it does not.

    `timed` are the files that hold times (see `write_manifest`). Raises `InputError` where `out` can't be written, is there
    (without `force`) or is being written by another process, and where the disk is full; `OutputError` where `out` has come
    to be there meanwhile.
    """
    with room_for(out), claimed(check_folder(out, force)) as place:
        check_folder(out, force)  # again: whoever had the place until now may have written it
        place.folder.mkdir()
        yield place.folder
        with writing(out):
            write_manifest(place.folder, timed)
            sync_tree(place.folder)
            place.put(force)
