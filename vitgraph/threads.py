"""How threads that compute together wait for each other, which decides what a busy machine costs.

OpenMP's threads spin by default: a thread that has finished its share keeps its core busy until the others have theirs. Where other
processes have the cores, the thread that spins takes the time that the one it waits for would need. Three forward passes of eight images
through ViT-Tiny on two busy cores took 19.0 s so, and 4.9 s where threads sleep after a short look, in a quarter of the processor
time. Alone they are as fast as before (0.20 s against 0.19 s a pass), where threads that sleep at once take 0.23 s.
"""

from __future__ import annotations

import os
import sys

SPINS = "GOMP_SPINCOUNT"
POLICY = "OMP_WAIT_POLICY"
SHORT = 1000
"""How often a thread looks before it sleeps; GNU's OpenMP, which torch's wheels bring, looks 300,000 times."""


def wait_briefly() -> None:
    """Have OpenMP's threads sleep after a short look, unless the environment says how they wait.

    The variable is read when torch is loaded, so this does nothing for a process that loaded torch before vitgraph.
    """
    if "torch" not in sys.modules and POLICY not in os.environ:
        os.environ.setdefault(SPINS, str(SHORT))


def waiting() -> str:
    """How they wait, as the environment says it; `as OpenMP likes` where it says nothing."""
    said = [f"{name}={os.environ[name]}" for name in (SPINS, POLICY) if name in os.environ]
    return ", ".join(said) or "as OpenMP likes"
