"""What vitgraph tells while it works: Python's logging, under the name `vitgraph`, on standard error.

`debug` tells each site that a pass left alone, `info` each pass, `warning` (the default) what may surprise, and `error`
nothing but what went wrong. `VITGRAPH_LOG` sets it for scripts and for commands, where `-v` and `-q` come first.
"""

from __future__ import annotations

import os
import sys

from vitgraph.errors import InputError

VARIABLE = "VITGRAPH_LOG"
LEVELS = ("debug", "info", "warning", "error")
_NAME = "vitgraph on standard error"


def level_asked() -> str | None:
    """What `VITGRAPH_LOG` says; None where it is not set. Raises `InputError` for anything but a level."""
    given = os.environ.get(VARIABLE, "").strip().lower()
    if given and given not in LEVELS:
        raise InputError(f"{VARIABLE}={given}: it is one of {', '.join(LEVELS)}")
    return given or None


def set_level(level: str) -> None:
    """Tell everything from this level up on standard error; another call replaces it."""
    import logging

    logger = logging.getLogger("vitgraph")
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(_NAME)
    handler.setFormatter(logging.Formatter("vitgraph: %(levelname)s: %(message)s"))
    logger.handlers = [each for each in logger.handlers if each.get_name() != _NAME] + [handler]
    logger.setLevel(level.upper())


def only_errors() -> bool:
    """Whether nothing but errors is told: progress and remarks are left out then."""
    import logging

    return not logging.getLogger("vitgraph").isEnabledFor(logging.WARNING)


def follow_environment() -> None:
    """What `import vitgraph` does with `VITGRAPH_LOG`; a command refuses a value that is no level, here it is a warning."""
    try:
        asked = level_asked()
    except InputError as error:
        import warnings

        warnings.warn(str(error), stacklevel=3)
        return
    if asked is not None:
        set_level(asked)
