"""The memory that a plan's kernels write to: rows by columns, padded where the plan says so, allocated once for a batch size."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

import torch
from torch import Tensor

from vitgraph.backends.cuda.plan import Buffer, Plan


class Memory:
    """Of the buffers that kernels write, and of torch's that need padded rows."""

    def __init__(self, plan: Plan, device: str, own: Collection[str] = (), *, poisoned: bool = False) -> None:
        """Kernels in `own` bring memory of their own; `poisoned` fills it with what no result is."""
        self.plan, self.device, self.own, self.poisoned = plan, device, own, poisoned
        self._stored = dict[int, dict[str, Tensor]]()

    def of(self, size: int) -> dict[str, Tensor]:
        """By name, for a batch of `size`."""
        if size not in self._stored:
            self._stored[size] = {each.name: self._allocated(each, size) for each in self._written}
        return self._stored[size]

    def release(self) -> None:
        """Let go of all of it."""
        self._stored.clear()

    def keep(self, name: str, result: Tensor, size: int) -> Tensor:
        """A result copied to the memory of its buffer."""
        memory = self.of(size)[name]
        written = result.reshape(-1, memory.shape[1])
        if result.dtype != memory.dtype or len(written) > len(memory):
            raise ValueError(
                f"{name}: {result.dtype} {list(result.shape)} does not fit {memory.dtype} {list(memory.shape)}"
            )
        memory[: len(written)].copy_(written)
        return self.viewed(name, memory, size)

    def viewed(self, name: str, memory: Tensor, size: int) -> Tensor:
        """The rows of a matrix that count, in the buffer's shape."""
        buffer = self.plan.buffers[name]
        return memory[: buffer.matrix(size)[0]].view(buffer.type.at(size))

    def _allocated(self, buffer: Buffer, size: int) -> Tensor:
        _, columns = buffer.matrix(size)
        memory = torch.zeros(buffer.stored_rows(size), columns, dtype=buffer.type.dtype, device=self.device)
        return memory.fill_(torch.nan if memory.dtype.is_floating_point else 99) if self.poisoned else memory

    @cached_property
    def _written(self) -> list[Buffer]:
        given = {name: step.kernel for step in self.plan.steps for name in step.outputs}
        wanted = {name for name, kernel in given.items() if kernel not in ("torch", *self.own)}
        padded = {name for name, kernel in given.items() if kernel == "torch" and self.plan.buffers[name].padded}
        return [each for name, each in self.plan.buffers.items() if name in wanted | padded]
