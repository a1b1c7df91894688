"""What stands for an ONNX value while a file is read: a node of the program, what is known already, or codes.

A value is known where it follows from constants and from sizes. Sizes may hang on the batch, which is not known, so such
a value is computed at a few batch sizes at once (as types are, see `vitgraph.ir.tensor_type`): shape arithmetic needs no
algebra of its own then. What is known and is wanted as a tensor is written into the program by the call that made it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir.tensor_type import SAMPLES, Dim, Size, TensorType, line


class Refusal(Exception):
    """This node can't be taken; the message says why."""


@dataclass(frozen=True, eq=False)
class Known:
    """A value that follows from constants and sizes."""

    samples: tuple[Tensor, ...]
    """One tensor, or one for each of `SAMPLES` where it hangs on the batch."""
    name: str = ""
    """The initializer that it comes from, where it comes from one."""
    made: Callable[[], fx.Node] | None = None
    """Writes the call that gave it into the program; None for a constant of the file, and for sizes read off a tensor."""

    @property
    def constant(self) -> Tensor | None:
        """The tensor, where it does not hang on the batch."""
        return self.samples[0] if len(self.samples) == 1 else None

    @property
    def type(self) -> TensorType:
        """Element type and shape."""
        shapes = [list(sample.shape) for sample in self.samples]
        return TensorType(
            self.samples[0].dtype,
            tuple(through([shape[axis] for shape in shapes]) for axis in range(len(shapes[0]))),
        )

    def sizes(self) -> list[Size]:
        """Its elements as sizes."""
        rows = [whole_numbers(sample) for sample in self.samples]
        return [through([row[position] for row in rows]) for position in range(len(rows[0]))]


@dataclass(frozen=True, eq=False)
class Codes:
    """What a QuantizeLinear gives: a value and how it is rounded; only DequantizeLinear takes it."""

    source: fx.Node | Known
    scale: Known
    axis: int | None
    format: str


Value = fx.Node | Known | Codes
Tensorial = fx.Node | Known


def whole_numbers(tensor: Tensor) -> list[int]:
    """The elements of a tensor as whole numbers."""
    flat: Any = tensor.reshape(-1)
    return [int(each) for each in flat.tolist()]


def through(values: Sequence[int]) -> Size:
    """The size that has these values at `SAMPLES`, or this one value."""
    try:
        return values[0] if len(values) == 1 else line(list(values), SAMPLES)
    except ValueError as error:
        raise Refusal(str(error)) from error


def joined(samples: Sequence[Tensor], name: str = "", made: Callable[[], fx.Node] | None = None) -> Known:
    """What is known at each batch size as one value; where all are equal it does not hang on the batch."""
    first = samples[0]
    same = all(each.shape == first.shape and torch.equal(each, first) for each in samples[1:])
    return Known((first,) if same else tuple(samples), name, made)


def type_of(value: Tensorial) -> TensorType:
    """Element type and shape of a tensor; `Refusal` for anything else."""
    kind = value.type if isinstance(value, Known) else value.meta["type"]
    if not isinstance(kind, TensorType):
        raise Refusal(f"a tensor is wanted where a value is {kind}")
    return kind


def at_sample(argument: Any, position: int) -> Any:
    """An argument at one of the batch sizes, for a call that is computed here."""
    if isinstance(argument, Known):
        return argument.samples[position if len(argument.samples) > 1 else 0]
    if isinstance(argument, Dim):
        return argument.at(SAMPLES[position])
    if isinstance(argument, list | tuple):
        return [at_sample(each, position) for each in argument]  # pyright: ignore[reportUnknownVariableType]
    return argument


def any_of(argument: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether an argument is, or holds, one of these."""
    if isinstance(argument, list | tuple):
        return any(any_of(each, kind) for each in argument)  # pyright: ignore[reportUnknownVariableType]
    return isinstance(argument, kind)
