"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) during long work."""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""
