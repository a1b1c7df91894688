"""How threads that compute together wait for each other, which decides what a busy machine costs.

OpenMP's threads spin by default: a thread that has finished its share keeps its core busy until the others have theirs. Where other
processes have the cores, the thread that spins takes the time that the one it waits for would need: a forward pass of ViT-Tiny on two
cores took four times as long so, in four times the processor time (benchmarks/busy_machine.py).
"""

from __future__ import annotations

import os
import sys

VARIABLE = "OMP_WAIT_POLICY"


def wait_passively() -> None:
    """Have OpenMP's threads sleep while they wait, unless the environment says how they wait.

    The variable is read when torch is loaded, so this does nothing for a process that loaded torch before vitgraph.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(VARIABLE, "PASSIVE")


def waiting() -> str:
    """How they wait, by the environment: `passive`, or `active` where nothing is said."""
    return os.environ.get(VARIABLE, "active").lower()
