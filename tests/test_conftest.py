"""The comparison with golden texts can fail, and rewrites only when asked."""

from pathlib import Path

import pytest

from tests.conftest import hold_to_golden


def test_other_text_fails(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old\n")
    with pytest.raises(AssertionError, match=r"a\.txt differs"):
        hold_to_golden("new\n", tmp_path / "a.txt", update=False)
    assert (tmp_path / "a.txt").read_text() == "old\n"


def test_missing_text_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"a\.txt is missing"):
        hold_to_golden("new\n", tmp_path / "a.txt", update=False)


def test_update_writes(tmp_path: Path) -> None:
    hold_to_golden("new\n", tmp_path / "golden" / "a.txt", update=True)
    hold_to_golden("new\n", tmp_path / "golden" / "a.txt", update=False)
