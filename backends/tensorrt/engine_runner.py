"""An engine on a GPU: one execution context for each batch size, its tensors in memory of torch's.

A context keeps the shape it was last given, and TensorRT-RTX the CUDA graph it recorded for it, so batch sizes that take turns
have each their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitgraph.backends.tensorrt.device_check import DeviceCheck
from vitgraph.backends.tensorrt.kernel_cache import CacheKey, keep_kernels
from vitgraph.backends.tensorrt.profiles import Profile, read_profiles, split_batch
from vitgraph.backends.tensorrt.runtime import Context, EngineRuntime
from vitgraph.backends.tensorrt.tensors import EngineTensors, read_tensors
from vitgraph.backends.tensorrt.validity import ran_out_of_memory
from vitgraph.errors import InputError
from vitgraph.runtime.accelerator import Card, KernelTime
from vitgraph.runtime.backend import Execution, Runner

_PROFILED = 10
"""Runs whose layers are timed; the report has their mean."""


@dataclass(frozen=True)
class Prepared:
    """One batch size: its context, what puts a run into the queue, and where input and first output are."""

    context: Context
    launch: Callable[[], object]
    batch: Tensor
    output: Tensor
    graph: str
    """Who records the CUDA graph, or why there is none."""


@dataclass(frozen=True)
class Loaded:
    """An engine and what is known of it."""

    name: str
    runtime: EngineRuntime
    engine: Any
    check: DeviceCheck
    key: CacheKey
    kernels: bytes | None = None
    """Of an earlier run under the same key."""


class EngineRunner(Runner):
    """Runs batches of any size: larger ones than its profiles take in pieces, smaller ones filled up with zeros, whose answers are dropped."""

    def __init__(self, loaded: Loaded, card: Card) -> None:
        """`InputError` where the engine does not take one tensor and give one that torch has."""
        self.loaded, self.card = loaded, card
        self.tensors: EngineTensors = read_tensors(loaded.runtime, loaded.engine, loaded.name)
        self.profiles = read_profiles(loaded.engine, self.tensors.input)
        super().__init__(loaded.name, self.tensors.input_shape, self.tensors.input_type)
        self.violations = loaded.check.violations
        self._prepared = dict[int, Prepared]()

    @property
    def accelerator(self) -> Card:
        """The GPU."""
        return self.card

    def compute(self, batch: Tensor) -> Tensor:
        """The first output, on the CPU."""
        found, least = list[Tensor](), min(profile.least for profile in self.profiles)
        missing = max(0, least - len(batch))
        filled = torch.cat([batch, batch.new_zeros(missing, *batch.shape[1:])]) if missing else batch
        for piece, prepared in self._pieces(filled):
            with self.card.queue():
                prepared.batch.copy_(piece)
                prepared.launch()
                found.append(prepared.output.to("cpu", copy=True))
        return torch.cat(found)[: len(batch)]

    def resident(self, batch: Tensor) -> Callable[[], object]:
        """The batch stays on the device; in pieces where it is larger than the engine takes, which are copied there each time.

        `InputError` for one that is smaller: what is filled up is no measure of it.
        """
        pieces = self._pieces(batch)
        with self.card.queue():
            held = [(piece.to(prepared.batch, copy=True), prepared) for piece, prepared in pieces]
            held[0][1].batch.copy_(held[0][0])
        self.card.synchronize()
        return held[0][1].launch if len(held) == 1 else lambda: _run_all(held)

    def kernel_times(self, batch: Tensor) -> Sequence[KernelTime]:
        """Its layers, by `IProfiler`, without CUDA graphs: the means of ten runs of the batch's first piece."""
        piece = len(self._pieces(batch)[0][0])
        times, counts = dict[str, float](), Counter[str]()

        def report(layer: str, ms: float) -> None:
            times[layer] = times.get(layer, 0.0) + ms / 1000
            counts[layer] += 1

        prepared = self._prepare(piece, graphs=False)
        prepared.context.context.profiler = self.loaded.runtime.profiler(report)
        for _ in range(_PROFILED):
            with self.card.queue():
                prepared.launch()
        self.card.synchronize()
        return [
            KernelTime(name, spent / counts[name], self.loaded.check.sites_of(name)) for name, spent in times.items()
        ]

    def execution(self, batch: int) -> Execution:
        """What the loaded engine's inspector says, and how it is run."""
        check, prepared = self.loaded.check, list(self._prepared.values())
        settings = {
            "runtime": self.loaded.runtime.title,
            "profiles": ", ".join(map(str, self.profiles)),
            "engine check": check.told,
            "kernel cache": self._cache_told(prepared),
            **({"CUDA graph": prepared[0].graph} if prepared else {}),
        }
        return Execution(dict(check.linears), dict(check.attentions), settings)

    def close(self) -> None:
        """Keep the kernels that were compiled, and release contexts and memory."""
        kept = self._compiled()
        if kept is not None and kept != self.loaded.kernels:
            keep_kernels(self.loaded.key, kept)
        self._prepared.clear()

    def _compiled(self) -> bytes | None:
        """The kernels of the last context, which began with those of the ones before."""
        return next((each.context.kernels() for each in reversed(self._prepared.values())), self.loaded.kernels)

    def _cache_told(self, prepared: list[Prepared]) -> str:
        if not self.loaded.runtime.captures_graphs:
            return "none: kernels are in the plan"
        return "reused" if any(each.context.reused for each in prepared) else "new"

    def _pieces(self, batch: Tensor) -> list[tuple[Tensor, Prepared]]:
        """The batch in the sizes that it is run in."""
        found, start = list[tuple[Tensor, Prepared]](), 0
        for size, _ in split_batch(len(batch), self.profiles, self.name):
            if size not in self._prepared:
                self._prepared[size] = self._prepare(size)
            found.append((batch[start : start + size], self._prepared[size]))
            start += size
        return found

    def _prepare(self, size: int, graphs: bool = True) -> Prepared:
        ((_, profile),) = split_batch(size, self.profiles, self.name)
        try:
            context = self.loaded.runtime.context(self.loaded.engine, self.name, self._compiled(), graphs)
            return self._bound(context, size, profile, graphs)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError) and not ran_out_of_memory([str(error)]):
                raise
            raise InputError(
                f"{self.name}: the GPU's memory does not hold a batch of {size}; run smaller batches, or free memory"
            ) from error

    def _bound(self, made: Context, size: int, profile: Profile, graphs: bool) -> Prepared:
        """A context whose shapes and addresses are set, run once, and recorded."""
        context = made.context
        with self.card.queue() as queue:
            if len(self.profiles) > 1:
                self._must(context.set_optimization_profile_async(profile.index, queue), f"profile {profile}")
            shape = (size, *(each or 1 for each in self.input_shape[1:]))
            self._must(context.set_input_shape(self.tensors.input, shape), f"input {list(shape)}")
            memory = {
                name: self.card.empty(tuple(context.get_tensor_shape(name)), kind)
                for name, kind in self.tensors.types.items()
            }
            memory[self.tensors.input].zero_()
            for name, tensor in memory.items():
                self._must(context.set_tensor_address(name, tensor.data_ptr()), f"tensor {name}")

        def run() -> Tensor:
            with self.card.queue() as queue:
                self._must(context.execute_async_v3(queue), f"a batch of {size}")
            return memory[self.tensors.output]

        run()
        self.card.synchronize()
        launch, graph = self._recorded(run) if graphs else (run, "none: layers are timed")
        return Prepared(made, launch, memory[self.tensors.input], memory[self.tensors.output], graph)

    def _recorded(self, run: Callable[[], Tensor]) -> tuple[Callable[[], object], str]:
        """What replays a run."""
        if self.loaded.runtime.captures_graphs:
            return run, "by TensorRT-RTX"
        try:
            return self.card.capture(run)[0], "recorded once"
        except (RuntimeError, InputError) as error:  # some engines wait for the CPU in between
            return run, f"none: {str(error).partition(chr(10))[0]}"

    def _must(self, done: bool, what: str) -> None:
        """Raise `InputError` where a call says that it did not do it."""
        if not done:
            raise self.loaded.runtime.refused(self.name, f"{what} is refused")


def _run_all(held: Sequence[tuple[Tensor, Prepared]]) -> None:
    for piece, prepared in held:
        prepared.batch.copy_(piece)
        prepared.launch()
