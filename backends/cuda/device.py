"""A plan on a GPU: kernels of Triton, sparse products of cuSPARSELt, and one CUDA graph for each batch size.

Memory of kernels' results is allocated once for a batch size; the graph replays the steps on it without the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from vitgraph.backends.cuda.executing import Executor, KernelFunction
from vitgraph.backends.cuda.plan import Plan
from vitgraph.backends.cuda.refusals import refusal_here
from vitgraph.backends.cuda.step_times import step_times
from vitgraph.errors import InputError
from vitgraph.runtime.accelerator import Accelerator, KernelTime
from vitgraph.runtime.cuda_card import CudaCard
from vitgraph.runtime.cuda_graph import captured

_MODULES = {"linear": "linear", "normalize": "normalize", "activate": "activation", "attention": "attention"}
"""The module of each kernel that is written in Triton."""


@dataclass(frozen=True)
class Recorded:
    """The steps for one batch size: where the input goes, what runs them, and where the first output is then."""

    batch: Tensor
    replay: Callable[[], None]
    output: Tensor


class Device(Executor):
    """The plan by the kernels, on a CUDA device."""

    writes_out = True

    def __init__(self, plan: Plan, tensors: Mapping[str, Tensor], device: str = "cuda") -> None:
        """`InputError` as for any executor, and where there is no such device or no Triton."""
        check_device(device, plan)
        self.kernels = {**triton_kernels(), "sparse linear": SparseProduct()}
        self._recorded = dict[int, Recorded]()
        with enough_memory(plan.name, "its weights"):
            super().__init__(plan, tensors, device)

    def packed(self, weight: Tensor) -> Tensor:
        """The values that are kept and where they stood, as cuSPARSELt stores them for this device."""
        library: Any = torch
        packed: Tensor = library._cslt_compress(weight.to(self.device))
        return packed

    def compute(self, batch: Tensor) -> Tensor:
        """The first output, on the CPU."""
        found = self.ready(batch)
        found.batch.copy_(batch)
        found.replay()
        return found.output.to("cpu", copy=True)

    @cached_property
    def card(self) -> Accelerator:
        """The GPU, for who times."""
        return CudaCard(self.device)

    @property
    def accelerator(self) -> Accelerator:
        """The GPU."""
        return self.card

    def resident(self, batch: Tensor) -> Callable[[], object]:
        """What replays the graph of this batch size, on these images."""
        found = self.ready(batch)
        found.batch.copy_(batch)
        self.accelerator.synchronize()
        return found.replay

    def kernel_times(self, batch: Tensor) -> Sequence[KernelTime]:
        """The kernels of every step, by torch's profiler."""
        return step_times(self, batch, self.accelerator.synchronize)

    def ready(self, batch: Tensor) -> Recorded:
        """The steps recorded for batches of this size."""
        size = len(batch)
        if size not in self._recorded:
            with torch.no_grad(), enough_memory(self.name, f"a batch of {size}"):
                self._recorded[size] = self.recorded(size, batch)
        return self._recorded[size]

    def close(self) -> None:
        """Let go of graphs and their memory."""
        self._recorded.clear()
        self.memory.release()

    def recorded(self, size: int, example: Tensor) -> Recorded:
        """Run the steps once, which compiles kernels and chooses algorithms, then record them."""
        batch = example.to(self.device, copy=True)
        self.run_steps(batch)
        graph, output = self.capture(lambda: self.run_steps(batch)[self.plan.outputs[0]])
        return Recorded(batch, graph, output)

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """A CUDA graph of what `run` does, as what replays it, and its result."""
        return captured(run)


@contextmanager
def enough_memory(name: str, what: str) -> Generator[None]:
    """`InputError` in place of torch's exception where the GPU's memory does not hold `what`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{name}: the GPU's memory does not hold {what}; run smaller batches, or free memory"
        ) from error


class SparseProduct:
    """cuSPARSELt's product, by the algorithm that it found the fastest for a shape."""

    def __init__(self) -> None:
        self._algorithms = dict[tuple[int, int, int], int]()

    def __call__(self, x: Tensor, w: Tensor, scale: Tensor) -> Tensor:
        """`x` INT8 `[M, K]`, `w` packed, `scale` FP32 `[N]`; gives FP16 `[M, N]` in memory of its own. M, N, K multiples of 32."""
        library: Any = torch
        options = {"alpha": scale, "out_dtype": torch.float16, "transpose_result": True}
        shape = (x.shape[0], x.shape[1], scale.shape[0])
        if shape not in self._algorithms:
            self._algorithms[shape] = int(library._cslt_sparse_mm_search(w, x.t(), **options))
        found: Tensor = library._cslt_sparse_mm(w, x.t(), **options, alg_id=self._algorithms[shape])
        return found


def triton_kernels() -> dict[str, KernelFunction]:
    """The functions that launch each kernel."""
    places = {name: import_module(f"vitgraph.backends.cuda.kernels.{module}") for name, module in _MODULES.items()}
    return {name: getattr(module, name) for name, module in places.items()}


def check_device(device: str, plan: Plan) -> None:
    """`InputError` where the plan can't run here."""
    library: Any = torch
    why = refusal_here(device)
    if why is None and plan.counts().get("sparse linear") and not library.backends.cusparselt.is_available():
        why = "its sparse products need cuSPARSELt, which this torch was built without"
    if why is not None:
        raise InputError(f"{plan.name}: {why}")
