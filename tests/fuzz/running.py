"""Graph after graph for so many seconds, in several processes; each process takes up a new one now and then, as torch.export keeps memory."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import count
from multiprocessing import get_context
from typing import Any

import torch

from tests.fuzz.comparing import judge
from tests.fuzz.generator import generate
from tests.fuzz.minimising import minimise
from tests.fuzz.quiet import quiet
from tests.fuzz.recipe import Recipe
from tests.fuzz.reporting import Summary
from tests.fuzz.verdict import Kind, Verdict

LONGEST = 60
"""Seconds a graph may take."""
GRAPHS_OF_A_PROCESS = 300
EVERY = 8
"""Each graph whose seed is a multiple of this is run by OpenVINO too."""


@dataclass(frozen=True)
class Result:
    """A graph by its seed, and what came of it."""

    seed: int
    verdict: Verdict


def try_graph(seed: int) -> Result:
    """Make the graph of this seed and judge it; the same in any process and at any time."""
    return Result(seed, judge_quietly(generate_quietly(seed), runtimes_of(seed)))


def cut_down(seed: int, verdict: Verdict) -> Recipe:
    """The graph of this seed, as small as it still has this fault."""
    return minimise(generate_quietly(seed), verdict, partial(judge_quietly, runtimes=runtimes_of(seed)))


def runtimes_of(seed: int) -> tuple[str, ...]:
    """ONNX Runtime for each graph; OpenVINO, which takes its time to compile, for some, where it is installed."""
    return ("ort", "openvino") if seed % EVERY == 0 and find_spec("openvino") else ("ort",)


def generate_quietly(seed: int) -> Recipe:
    """A recipe, and nothing on the screen."""
    with quiet():
        return generate(seed)


def judge_quietly(recipe: Recipe, runtimes: tuple[str, ...] = ("ort",)) -> Verdict:
    """A verdict in at most `LONGEST` seconds, and nothing on the screen."""
    try:
        with quiet(), at_most(LONGEST):
            return judge(recipe, runtimes)
    except TimeoutError:
        return Verdict(Kind.CRASH, "time", f"took more than {LONGEST} s")


@contextmanager
def at_most(seconds: int) -> Generator[None]:
    """`TimeoutError` where the block takes longer."""

    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(first: int, seconds: float, workers: int, tell: Callable[[Summary, Result | None], None]) -> Summary:
    """Try the graphs `first`, `first + 1`, … until the time is up; `tell` gets the summary, and each fault that is new."""
    summary, end = Summary(), time.monotonic() + seconds
    for result in _results(first, workers, end):
        tell(summary, result if summary.add(result.seed, result.verdict) else None)
    return summary


def _results(first: int, workers: int, end: float) -> Iterator[Result]:
    """In order of seeds; no more are begun once the time is up."""

    def seeds() -> Iterator[int]:
        for seed in count(first):
            if time.monotonic() >= end:
                return
            yield seed

    if workers == 1:
        yield from map(try_graph, seeds())
        return
    with get_context("spawn").Pool(workers, _one_thread, maxtasksperchild=GRAPHS_OF_A_PROCESS) as pool:
        while time.monotonic() < end:
            batch = range(first, first + 8 * workers)
            first = batch.stop
            yield from pool.imap_unordered(try_graph, batch)


def _one_thread() -> None:
    torch.set_num_threads(1)
