"""Rounds in turns, and what is made of their times."""

import pytest

from vitgraph.backends.cuda.interleaved import Work, interleave, spread_of


class Told:
    """A clock that hands out times by work, and remembers what it was asked."""

    def __init__(self, **times: list[float]) -> None:
        self.times, self.asked = times, list[tuple[str, int]]()

    def milliseconds(self, work: Work, times: int) -> float:
        name = str(work())
        self.asked.append((name, times))
        return self.times[name].pop(0)


WORKS: dict[str, Work] = {"a": lambda: "a", "b": lambda: "b"}


def test_every_other_round_goes_the_opposite_way() -> None:
    clock = Told(a=[1.0] * 4, b=[2.5] * 4)
    interleave(WORKS, clock, rounds=3, at_least_ms=5.0)
    assert clock.asked[:2] == [("a", 3), ("b", 3)]
    assert clock.asked[2:] == [("b", 2), ("a", 5), ("a", 5), ("b", 2), ("b", 2), ("a", 5)]


def test_medians_and_quartiles_leave_out_a_stray_round() -> None:
    found = interleave(WORKS, Told(a=[1.0, 1.0, 1.2, 90.0, 1.1, 1.0], b=[9.0] * 6), rounds=5)["a"]
    assert (found.median, found.low, found.high, found.least, found.most) == (1.1, 1.0, 1.2, 1.0, 90.0)


def test_one_round_has_no_spread() -> None:
    assert spread_of([3.0]).low == spread_of([3.0]).high == 3.0


def test_nothing_to_time_is_no_fault() -> None:
    assert interleave({}, Told()) == {}


def test_a_clock_that_sees_no_time_runs_once_a_round() -> None:
    clock = Told(a=[0.0] * 3)
    assert interleave({"a": WORKS["a"]}, clock, rounds=2)["a"].median == 0.0
    assert clock.asked == [("a", 3), ("a", 1), ("a", 1)]


def test_a_failure_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        interleave({"c": lambda: "c"}, Told())
