"""Two names that change places, and what is answered where they can't."""

import sys
from pathlib import Path

import pytest

from vitgraph.outputs.exchange import exchange


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_folders_change_places(tmp_path: Path) -> None:
    for name in ("a ä", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "a ä", tmp_path / "b")
    assert (tmp_path / "a ä/b").exists()
    assert (tmp_path / "b/a ä").exists()


def test_where_one_is_missing_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert not exchange(tmp_path / "a", tmp_path / "b")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def without_calls(_: object) -> object:
    """A C library that is too old."""
    return object()


def test_without_the_call_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", without_calls)
    for name in "ab":
        (tmp_path / name).mkdir()
    assert not exchange(tmp_path / "a", tmp_path / "b")
