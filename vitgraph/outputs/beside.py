"""A finished output whose place was taken meanwhile: it is kept beside, and the user is told where."""

from __future__ import annotations

import os
from pathlib import Path

from vitgraph.errors import OutputError


def taken(out: Path, kept: Path) -> OutputError:
    """What to raise where something stands in an output's place that was not there when the work began."""
    return OutputError(f"output {out} has come to be there meanwhile, and was left alone; {kept} has what was made")


def keep_beside(path: Path, out: Path) -> Path:
    """Move a file or folder to the first free name beside `out`."""
    number = 1
    while True:
        number += 1
        kept = out.with_name(f"{out.name}-{number}")
        if os.path.lexists(kept):
            continue
        path.rename(kept)
        return kept
