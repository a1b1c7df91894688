"""CUDA graphs: work that is recorded once and replayed without the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def captured(run: Callable[[], Result], stream: Any = None) -> tuple[Callable[[], None], Result]:
    """A CUDA graph of what `run` does, as what replays it, and its result; it must have run before, for kernels are compiled then.

    It is recorded on `stream`, or on one of torch's own.

    What replays it holds `run`, and so the tensors that it reads and writes: a graph knows their addresses only, and
    memory that was released would be another's by then.
    """
    cuda: Any = torch.cuda
    cuda.synchronize()
    graph = cuda.CUDAGraph()
    with cuda.graph(graph, stream=stream):
        output = run()
    return partial(_replay, graph, run), output


def _replay(graph: Any, held: object) -> None:
    graph.replay()
