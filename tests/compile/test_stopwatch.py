"""Seconds by part."""

import time

from vitgraph.compile.stopwatch import Stopwatch


def test_parts_add_up_and_the_total_is_of_all() -> None:
    clock = Stopwatch()
    for _ in range(2):
        with clock.timed("work"):
            time.sleep(0.01)
    clock.add("work", -0.005)
    clock.add("part", 0.005)
    read = clock.read()
    assert list(read) == ["work", "part", "total"]
    assert read["part"] == 0.005
    assert 0.015 <= (read["work"] or 0) <= (read["total"] or 0)
