"""What each kernel takes, as a step of a plan from a file has to give it: names, types and sizes of all arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from vitgraph.backends.cuda.operands import FP16, FP32, INT8, expect_scale
from vitgraph.backends.cuda.plan import PADDING, Buffer, Plan, Step, Value, Weight
from vitgraph.ir.tensor_type import Dim, Size

_BATCHES = (1, 5, 7)
"""Batch sizes at which two sizes that depend on it are compared; two make a line."""
MOST_WIDTH, MOST_DEPTH, MOST_KEYS = 4096, 128, 1024
"""Of a row that is normalized, and of an attention's heads and keys."""


class _Given:
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
        if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < 2.0**127:
            raise ValueError(f"{name} is {found!r}, no number of FP32")
        return float(found)


def check_kernel(plan: Plan, step: Step) -> None:
    """`ValueError` says what the kernel of a step would not take."""
    _CHECKS[step.kernel](_Given(plan, step))


def _linear(given: _Given) -> None:
    x = given.matrix("x", INT8)
    columns = given.plan.buffers[given.step.outputs[0]].type.shape[-1:]
    given.weight("w", INT8, *columns, x.type.shape[-1])
    given.weight("scale", FP32, *columns)
    given.epilogue(*columns)
    scale = given.scale("out_scale", optional=True)
    given.output(0, FP16 if scale is None else INT8, _rows(x), *columns)
    given.end()


def _sparse_linear(given: _Given) -> None:
    x = given.matrix("x", INT8)
    columns = given.plan.buffers[given.step.outputs[0]].type.shape[-1:]
    given.weight("w", INT8, *columns, x.type.shape[-1])
    given.weight("scale", FP32, *columns)
    out = given.output(0, FP16, _rows(x), *columns)
    sizes = (x.type.shape[-1], *columns)
    if not (x.padded and out.padded) or any(isinstance(size, Dim) or size % PADDING for size in sizes):
        raise ValueError(f"rows of {x.name} and {out.name} are not padded, or {list(sizes)} no multiples of {PADDING}")
    given.end()


def _normalize(given: _Given) -> None:
    x = given.matrix("x", FP16)
    width = x.type.shape[-1]
    residual = given.matrix("residual", FP16) if given.left.get("residual") is not None else None
    if residual is not None and residual.type.shape != x.type.shape:
        raise ValueError(f"residual is {residual.type}, and x {x.type}")
    for name in ("weight", "bias"):
        given.weight(name, FP32, width)
    if isinstance(width, Dim) or not 0 < width <= MOST_WIDTH or not given.number("eps") >= 2.0**-100:
        raise ValueError(f"rows of {width} are not 1 to {MOST_WIDTH} wide, or eps is too small")
    scale = given.scale("scale", optional=True)
    given.output(0, FP16 if scale is None else INT8, _rows(x), width)
    if residual is not None:
        given.output(1, FP16, _rows(x), width)
    given.end(1 if residual is None else 2)


def _activate(given: _Given) -> None:
    x = given.matrix("x", FP16)
    given.epilogue(x.type.shape[-1])
    scale = given.scale("scale", optional=True)
    given.output(0, FP16 if scale is None else INT8, _rows(x), x.type.shape[-1])
    given.end()


def _attention(given: _Given) -> None:
    q, k, v = (given.matrix(name, INT8).type.shape for name in ("q", "k", "v"))
    if len(q) != 4 or k != v or q[:2] != k[:2] or q[3] != k[3]:
        raise ValueError(f"q {list(q)}, k {list(k)} and v {list(v)} are not [B, H, T, D] of the same heads")
    _, heads, tokens, depth = q
    if any(isinstance(size, Dim) for size in (heads, tokens, depth, k[2])):
        raise ValueError("its heads, tokens or depth depend on the batch")
    if not 0 < int(str(k[2])) <= MOST_KEYS or not 0 < int(str(depth)) <= MOST_DEPTH:
        raise ValueError(f"{k[2]} keys of depth {depth}; the kernel takes {MOST_KEYS} of depth {MOST_DEPTH}")
    given.number("score_factor")
    for name in ("probability_scale", "value_scale"):
        given.scale(name)
    scale = given.scale("out_scale", optional=True)
    columns = int(str(heads)) * int(str(depth))
    out = given.output(
        0, FP16 if scale is None else INT8, lambda batch: _images(q[0], batch) * int(str(tokens)), columns
    )
    if out.type.shape[:-1] != (q[0], tokens):
        raise ValueError(f"{out.name} is {out.type}, not [B, T, H * D]")
    given.end()


def _rows(buffer: Buffer) -> Callable[[int], int]:
    return lambda batch: buffer.matrix(batch)[0]


def _images(size: Size, batch: int) -> int:
    return size.at(batch) if isinstance(size, Dim) else size


_CHECKS: Mapping[str, Callable[[_Given], None]] = {
    "linear": _linear,
    "sparse linear": _sparse_linear,
    "normalize": _normalize,
    "activate": _activate,
    "attention": _attention,
}
