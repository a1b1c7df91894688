"""CUDA graphs: work that is recorded once and replayed without the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def captured(run: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
    """A CUDA graph of what `run` does, as what replays it, and its result; it must have run before, for kernels are compiled then."""
    cuda: Any = torch.cuda
    cuda.synchronize()
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        output = run()
    return graph.replay, output
