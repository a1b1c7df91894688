"""Progress of long work on standard error, where somebody is looking: what, how far, and how long it may still take."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]


@contextmanager
def show_progress() -> Generator[Progress]:
    """A function to be told (what, done, total); silent where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks = dict[str, TaskID]()
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = drawn.add_task(what, total=total)
            drawn.update(tasks[what], completed=done, total=total)

        yield tell
