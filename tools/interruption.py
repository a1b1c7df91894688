"""Signals that ask a command to end, whatever it is at: Ctrl-C, SIGTERM, and the terminal going away.

While modules are loaded nothing is begun, and the program leaves at once. Later a signal interrupts the work, so that what it
has half-written is removed.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

TOLD = "interrupted; nothing half-written was left"


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to end; `status` is what a shell expects then."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


class EndingSignals:
    """What becomes of them; those that were set to be ignored, as `nohup` does, stay so."""

    def __init__(self) -> None:
        untouched = (signal.SIG_DFL, signal.default_int_handler)
        asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._numbers = [number for number in asked if signal.getsignal(number) in untouched]
        self.status = 0
        """128 and the number of the signal that came; 0 where none did."""

    def leave_at_once(self) -> None:
        """From now on the program ends where it is: there is nothing to remove."""
        for number in self._numbers:
            signal.signal(number, self._leave)

    def interrupt(self) -> None:
        """From now on `Interrupted` is raised."""
        for number in self._numbers:
            signal.signal(number, self._raise)

    def _leave(self, number: int, frame: FrameType | None) -> NoReturn:
        os.write(2, f"vitgraph: {TOLD}\n".encode())
        os._exit(128 + number)

    def _raise(self, number: int, frame: FrameType | None) -> NoReturn:
        self.status = 128 + number
        raise Interrupted(number)
