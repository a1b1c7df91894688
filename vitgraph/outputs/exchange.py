"""Two names that change places in one step, where the system can do that."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

_HERE = -100
"""AT_FDCWD of fcntl.h: paths are those of this process."""
_EXCHANGE = 2
"""RENAME_EXCHANGE of linux/fs.h."""


def exchange(one: Path, other: Path) -> bool:
    """Whether the two have changed places; where the system, its C library or the file system can't do that, nothing has happened."""
    if sys.platform != "linux":
        return False
    rename: Any = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0
