"""What comes of work in a process of its own."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.fuzz.apart import apart
from tests.fuzz.running import at_most
from tests.fuzz.stages import Found
from tests.fuzz.verdict import Kind, Verdict


def find() -> None:
    raise Found(Kind.WRONG, "here", "2 is not 3")


def die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def die_where_signals_are_caught() -> None:
    """As under a library that caught them before the fork."""
    signal.signal(signal.SIGSEGV, signal.SIG_IGN)
    apart("peer", die)


def fail() -> None:
    raise ZeroDivisionError("by 0")


@pytest.mark.parametrize(
    ("work", "verdict"),
    [
        (find, Verdict(Kind.WRONG, "here", "2 is not 3")),
        (die, Verdict(Kind.RUNTIME, "peer", "SIGSEGV")),
        (die_where_signals_are_caught, Verdict(Kind.RUNTIME, "peer", "SIGSEGV")),
        (fail, Verdict(Kind.CRASH, "peer", "ZeroDivisionError: by 0")),
    ],
)
def test_its_end_is_told(work: Callable[[], None], verdict: Verdict) -> None:
    with pytest.raises(Found) as caught:
        apart("peer", work)
    assert caught.value.verdict == verdict


def test_work_that_is_right_tells_nothing() -> None:
    apart("peer", lambda: None)


def test_work_that_hangs_ends_with_its_time() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError), at_most(1):
        apart("peer", lambda: time.sleep(30))
    assert time.monotonic() - begun < 10
