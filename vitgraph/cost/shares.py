"""What share of published peaks kernels reach, and what they cost besides: the eight constants of `vitgraph.cost.roofline`.

They are the same for all shapes, types and targets. They were chosen, rounded, with the figures that `published.yaml` marks
as fitted, all of the A100; moving one by a quarter fits those hardly better (`tests/cost/test_published.py`), and
`vitgraph inspect --cost --published` says how far off all the others are.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shares:
    """What share of each peak kernels reach, and what they cost besides."""

    tensor: float
    """Of the tensor cores' rate, once a wave is under way."""
    simt: float
    """Of the FP32 rate, where there are no tensor cores."""
    bandwidth: float
    """Of memory's."""
    sparse: float
    """Of the time that zeros of N:M leave out: 0 would be no gain, 1 the twofold rate of 2:4."""
    launch_us: float
    """From one kernel's end to the next one's first useful cycle."""
    sparse_launch_us: float
    """What a sparse kernel takes more."""
    wave_us: float
    """What a wave takes to fetch its first operands and to write its tiles."""
    tile: float
    """The side of a tile of zeros at which a block-sparse kernel reaches half of the dense rate."""


FITTED = Shares(
    tensor=0.75, simt=0.85, bandwidth=0.8, sparse=0.6, launch_us=4, sparse_launch_us=1, wave_us=1.5, tile=150
)
