"""The memory of this process: how much it was at most, and returning what is free to the system."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys


def peak_rss_mb() -> int:
    """The largest resident set of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 if sys.platform != "darwin" else 1024 * 1024)


def trim_memory(cycles: bool = False) -> None:
    """Return freed memory to the system, where the C library can be asked to.

    With `cycles`, what only refers to itself is freed first, as a graph that is no longer needed does: that takes a while.

    glibc keeps blocks of up to 32 MB for itself once it has seen one of that size, which after a pass over a model's
    weights are about as many bytes as the model has.
    """
    if cycles:
        gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
