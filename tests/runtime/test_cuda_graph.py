"""A recorded graph, on a pretended torch.cuda: it replays, and holds on to the memory that it works on."""

import gc
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from vitgraph.runtime.cuda_card import CudaCard
from vitgraph.runtime.cuda_graph import captured


class Graph:
    """Counts replays."""

    replays = 0

    def replay(self) -> None:
        Graph.replays += 1


class PretendedCuda:
    CUDAGraph = Graph

    def synchronize(self) -> None:
        """Nothing is under way."""

    def graph(self, graph: Graph, stream: object) -> Any:
        self.stream = stream
        return nullcontext()


Capture = Callable[[Callable[[], torch.Tensor]], tuple[Callable[[], None], torch.Tensor]]


def recorded(capture: Capture) -> tuple[Callable[[], None], Any]:
    """What replays a sum, and a weak reference to what it sums."""
    operand = torch.ones(3)
    replay, output = capture(lambda: operand.sum())
    assert float(output) == 3
    return replay, weakref.ref(operand)


def card() -> CudaCard:
    """With a stream, and nothing else: there is no device."""
    found = object.__new__(CudaCard)
    vars(found)["_stream"] = "its own stream"
    return found


@pytest.mark.parametrize(("capture", "stream"), [(captured, None), (card().capture, "its own stream")])
def test_what_it_works_on_lives_as_long_as_the_replay(
    capture: Capture, stream: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = PretendedCuda()
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(Graph, "replays", 0)
    replay, alive = recorded(capture)
    assert cuda.stream == stream
    gc.collect()
    assert alive() is not None, "the graph would read memory that is another's"
    replay()
    assert Graph.replays == 1
    del replay
    gc.collect()
    assert alive() is None
