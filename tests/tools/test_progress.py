"""Progress where nobody watches a terminal: a line every few seconds, none of quick work."""

import logging

import pytest

from vitgraph.logs import set_level
from vitgraph.progress import NOTE
from vitgraph.tools.progress import PAUSE, Lines, show_progress


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_quick_work_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    for done in range(4):
        clock.now += 1
        lines.tell("calibration", done, 3)
    assert capsys.readouterr().err == ""


def test_a_line_every_few_seconds_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    for done in range(101):
        clock.now = 100 + done / 10
        lines.tell("calibration", done, 100)
    lines.tell("calibration", 100, 100)
    assert capsys.readouterr().err.splitlines() == [
        "vitgraph: calibration: 50 of 100, about 5 s left",
        "vitgraph: calibration: 100 of 100, 10 s",
    ]


def test_each_piece_of_work_has_its_own_time(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    lines.tell("passes", 0, 2)
    clock.now += PAUSE
    lines.tell("calibration", 0, 8)
    clock.now += PAUSE
    lines.tell("calibration", 4, 8)
    clock.now += 1
    lines.tell("passes", 1, 2)
    assert capsys.readouterr().err.splitlines() == [
        "vitgraph: calibration: 0 of 8",
        "vitgraph: calibration: 4 of 8, about 5 s left",
    ]


def test_a_note_changes_and_the_work_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    for done in range(40, 101):  # it goes on from 40
        clock.now = 100 + done / 10
        lines.tell(f"stage sparse{NOTE}loss {done}", done, 100)
    assert capsys.readouterr().err.splitlines() == [
        "vitgraph: stage sparse: 50 of 100, about 5 s left, loss 50",
        "vitgraph: stage sparse: 100 of 100, 6 s, loss 100",
    ]


def test_silent_where_only_errors_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitgraph.tools.progress.PAUSE", 0.0)
    for level, told in (("error", ""), ("warning", "vitgraph: work: 1 of 2")):
        set_level(level)
        with show_progress() as progress:
            progress("work", 1, 2)
        assert capsys.readouterr().err.startswith(told)
        assert bool(told) == logging.getLogger("vitgraph").isEnabledFor(logging.WARNING)
