"""A recorded graph, on a pretended torch.cuda: it replays, and holds on to the memory that it works on."""

import gc
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from vitgraph.backends.cuda import cuda_graph


class Graph:
    """Counts replays."""

    replays = 0

    def replay(self) -> None:
        Graph.replays += 1


class PretendedCuda:
    CUDAGraph = Graph

    def synchronize(self) -> None:
        """Nothing is under way."""

    def graph(self, graph: Graph) -> Any:
        return nullcontext()


def recorded() -> tuple[Callable[[], None], Any]:
    """What replays a sum, and a weak reference to what it sums."""
    operand = torch.ones(3)
    replay, output = cuda_graph.captured(lambda: operand.sum())
    assert float(output) == 3
    return replay, weakref.ref(operand)


def test_what_it_works_on_lives_as_long_as_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cuda", PretendedCuda())
    replay, alive = recorded()
    gc.collect()
    assert alive() is not None, "the graph would read memory that is another's"
    replay()
    assert Graph.replays == 1
    del replay
    gc.collect()
    assert alive() is None
