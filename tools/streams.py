"""Standard output and standard error as a command finds them: closed, full, of another encoding, or a pipe that nobody reads."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

from vitgraph.errors import InputError


def ready_streams() -> None:
    """Make both streams fit to be written to; `InputError` where standard output is closed: no answer could be told."""
    for number in range(3):
        _hold_open(number)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a table's lines and any file's name, in any encoding
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  so Python has it where it was closed
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  for the life of the process
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise InputError("standard output is closed; send it to a file, or to /dev/null")


def _hold_open(number: int) -> None:
    """Put /dev/null in the place of a closed stream: a file that is opened next would get its number, and what libraries print."""
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one


@contextmanager
def answering() -> Generator[None]:
    """Where the answer is printed: whatever is still buffered is written at the end, so that a fault of it is told."""
    try:
        yield
        sys.stdout.flush()
    except OSError:
        _let_go()
        raise


def _let_go() -> None:
    """Nothing more can be written there, and Python must not try to when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
