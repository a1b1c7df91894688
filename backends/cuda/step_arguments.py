"""The arguments of a step from a file, taken by name: each is of the type and size that its kernel wants, or `ValueError`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vitgraph.backends.cuda.operands import FP32, expect_scale
from vitgraph.backends.cuda.plan import Buffer, Plan, Step, Value, Weight
from vitgraph.ir.tensor_type import Dim, Size

_BATCHES = (1, 5, 7)
"""Batch sizes at which two sizes that depend on it are compared; two make a line."""


class StepArguments:
    """The arguments of a step, each taken once by its name."""

    def __init__(self, plan: Plan, step: Step) -> None:
        self.plan, self.step, self.left = plan, step, dict(step.arguments)

    def matrix(self, name: str, dtype: torch.dtype) -> Buffer:
        """A buffer of rows."""
        found = self.left.pop(name, None)
        if not isinstance(found, Value):
            raise ValueError(f"{name} is no buffer")
        return self.typed(name, self.plan.buffers[found.name], dtype)

    def typed(self, name: str, buffer: Buffer, dtype: torch.dtype) -> Buffer:
        """A buffer that has this type and rows."""
        if buffer.type.dtype != dtype or not buffer.type.shape or isinstance(buffer.type.shape[-1], Dim):
            raise ValueError(f"{name} is {buffer.type}, not rows of {dtype}")
        return buffer

    def weight(self, name: str, dtype: torch.dtype, *shape: Size, optional: bool = False) -> None:
        """A weight of this type and shape; None where it may be left out."""
        found = self.left.pop(name, None)
        if optional and found is None:
            return
        kind = self.plan.weights[found.name] if isinstance(found, Weight) else None
        if kind is None or kind.dtype != dtype or kind.shape != shape:
            raise ValueError(f"{name} is {kind or found!r}, not a weight {dtype} {list(shape)}")

    def scale(self, name: str, *, optional: bool = False) -> float | None:
        """A scale; None where it may be left out."""
        found = self.left.pop(name, None)
        if optional and found is None:
            return None
        number = self._number(name, found)
        expect_scale(name, number)
        return number

    def number(self, name: str) -> float:
        """Any finite number."""
        return self._number(name, self.left.pop(name, None))

    def switch(self, name: str) -> None:
        """True or False."""
        if not isinstance(self.left.pop(name, False), bool):
            raise ValueError(f"{name} is neither true nor false")

    def epilogue(self, columns: Size) -> None:
        """What `adjusted_values` takes, and bias and GELU."""
        self.switch("gelu")
        self.scale("round_scale", optional=True)
        for name in ("bias", "multiplier", "offset"):
            self.weight(name, FP32, columns, optional=True)

    def output(self, at: int, dtype: torch.dtype, rows: Callable[[int], int], columns: Size) -> Buffer:
        """The buffer that is written, which has these rows and columns."""
        name = self.step.outputs[at]
        found = self.typed(name, self.plan.buffers[name], dtype)
        if any(found.matrix(batch) != (rows(batch), columns) for batch in _BATCHES):
            raise ValueError(f"{name} is {found.type}, not {rows(1)} rows of {columns} at a batch of one")
        return found

    def end(self, outputs: int = 1) -> None:
        """All were taken, and so many buffers are written."""
        if self.left or len(self.step.outputs) != outputs:
            raise ValueError(
                f"{sorted(self.left)} are no arguments of it, or it writes {len(self.step.outputs)} buffers"
            )

    @staticmethod
    def _number(name: str, found: object) -> float:
        if not isinstance(found, float) or not abs(found) < 2.0**127:
            raise ValueError(f"{name} is {found!r}, no number of FP32")
        return found
