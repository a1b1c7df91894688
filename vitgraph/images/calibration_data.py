"""What passes ask of calibration data; any source of batches can be it."""

from __future__ import annotations

from typing import Any, Protocol


class Images(Protocol):
    """Calibration data: pre-processed batches in a fixed order."""

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def batches(self, size: int) -> Any:
        """Pairs of a `[size, C, H, W]` tensor and labels; the last batch may be smaller."""
        ...


_UNOPENED = "these calibration images are not open yet"


class UnopenedImages:
    """Images that were asked for and wait for the model's pre-processing: what options are checked against."""

    def __len__(self) -> int:
        """Not known yet."""
        raise RuntimeError(_UNOPENED)

    def batches(self, size: int) -> Any:
        """There are none yet: no pass may be run with these."""
        raise RuntimeError(_UNOPENED)
