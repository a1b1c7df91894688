"""How long the parts of a work took."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager


class Stopwatch:
    """Seconds by part, and of the whole since it was made."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.seconds = dict[str, float]()
        self.passes: Sequence[float] = ()
        """Of each pass that ran, in order."""

    @contextmanager
    def timed(self, part: str) -> Generator[None]:
        """Add the time of a block to a part."""
        start = time.perf_counter()
        yield
        self.add(part, time.perf_counter() - start)

    def add(self, part: str, seconds: float) -> None:
        """Add to a part; what another part has too much is taken from it by a negative number."""
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    def read(self) -> dict[str, float | None]:
        """Every part and the `total`, to the millisecond."""
        total = time.perf_counter() - self.started
        return {part: round(seconds, 3) for part, seconds in {**self.seconds, "total": total}.items()}
