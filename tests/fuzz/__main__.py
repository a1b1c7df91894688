"""`python -m tests.fuzz --seconds 1200 --workers 2`: random graphs until the time is up; exit status 1 where one shows a fault."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

import torch

from tests.fuzz.reporting import Summary, as_test
from tests.fuzz.running import Result, cut_down, generate_quietly, run, try_graph

CORPUS = Path(__file__).parent / "corpus"
SEEDS = 10**6
"""Runs without a seed begin at a random one below this many thousands."""


class Screen:
    """Progress every few seconds, and each new fault as a test."""

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self._begun = self._last = time.monotonic()

    def tell(self, summary: Summary, found: Result | None) -> None:
        """Called after every graph."""
        if found is not None:
            self.show(found)
        if time.monotonic() - self._last > 10:
            self._last = time.monotonic()
            print(f"{self._last - self._begun:6.0f} s  {summary.line()}", file=sys.stderr, flush=True)

    def show(self, found: Result) -> None:
        """Cut a find down and print it; keep it in the corpus if asked to."""
        print(f"graph {found.seed}: {found.verdict}", flush=True)
        text = as_test(cut_down(found.seed, found.verdict), found.verdict, found.seed)
        print(f"{text}\n", flush=True)
        if self.keep:
            (CORPUS / f"graph_{found.seed}.py").write_text(text)


def main() -> int:
    """Run, or try one graph again."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, help="the first graph; a random one where none is given")
    parser.add_argument("--graph", type=int, help="try this graph alone, and show it whole and cut down")
    parser.add_argument("--keep", action="store_true", help="write finds into tests/fuzz/corpus")
    given = parser.parse_args()
    torch.set_num_threads(1)
    screen = Screen(given.keep)
    if given.graph is not None:
        return _try_again(given.graph, screen)
    first = random.randrange(SEEDS) * 1000 if given.seed is None else given.seed
    print(f"random graphs for {given.seconds:.0f} s from seed {first} on, {given.workers} worker(s)", flush=True)
    summary = run(first, given.seconds, given.workers, screen.tell)
    print(summary.text())
    return 1 if summary.faults else 0


def _try_again(seed: int, screen: Screen) -> int:
    print(generate_quietly(seed).source())
    result = try_graph(seed)
    if not result.verdict.kind.is_fault:
        print(result.verdict)
        return 0
    screen.show(result)
    return 1


if __name__ == "__main__":
    sys.exit(main())
