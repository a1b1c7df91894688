"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) during long work; `what` may end in a note after `NOTE`, which changes as the work goes on."""
NOTE = " | "


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""
