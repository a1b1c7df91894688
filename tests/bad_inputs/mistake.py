"""A user's mistake and the answer that it deserves.

Each file of this folder holds one class of inputs as a table `MISTAKES`; `test_table.py` counts them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.tools.conftest import Cli

Make = Callable[[Path], object]
"""Writes what a case needs at the path that it is handed."""


@dataclass(frozen=True)
class Mistake:
    """A command line, run in an empty folder with these files, and what its answer must hold."""

    name: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]
    """Parts of the message: the input, the fault, the remedy."""
    files: Mapping[str, str | bytes | Make] = field(default_factory=dict[str, "str | bytes | Make"])
    """By path within the folder: text, bytes, or what writes the file."""
    status: int = 2
    leaves: tuple[str, ...] = ()
    """What the command may leave beside `files` (a failed check keeps its output)."""


def each(mistakes: list[Mistake]) -> pytest.MarkDecorator:
    """A test for each row, named after it."""
    return pytest.mark.parametrize("mistake", [pytest.param(each, id=each.name) for each in mistakes])


def hold(mistake: Mistake, cli: Cli) -> None:
    """The answer has the status, every part of the message, no traceback, and nothing half-written is left."""
    for name, content in mistake.files.items():
        _write(Path(name), content)
    before = _here()
    ran = cli(*mistake.arguments)
    assert "internal error" not in ran.err, ran.err
    assert "Traceback" not in ran.err, ran.err
    assert ran.status == mistake.status, f"exit {ran.status}\n{ran.err}"
    assert "vitgraph: " in ran.err, ran.err
    for part in mistake.says:
        assert part in ran.err, f"{part!r} is not said:\n{ran.err}"
    assert _here() - before <= set(mistake.leaves)


def _write(path: Path, content: str | bytes | Make) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")


def _here() -> set[str]:
    return {str(path) for path in Path().iterdir()}
