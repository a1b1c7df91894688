"""What a GPU is to do for a program, as plain data: buffers, weights by name, and one step after the other.

A plan holds no tensors and no code. `plan_text` shows it, `plan_file` reads and writes it, `executing` runs it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch

from vitgraph.ir.tensor_type import Dim, TensorType

Kernel = Literal["linear", "sparse linear", "normalize", "activate", "attention", "torch"]
Kind = Literal["linear", "attention"]
KERNELS: tuple[str, ...] = get_args(Kernel)
PADDING = 32
"""cuSPARSELt takes rows in multiples of this."""


@dataclass(frozen=True)
class Value:
    """A buffer that a step reads."""

    name: str


@dataclass(frozen=True)
class Weight:
    """A constant that a step reads."""

    name: str


Scalar = None | bool | int | float | str | Dim | torch.dtype
Argument = Scalar | Value | Weight | tuple["Argument", ...]
"""What a step is given; a `Dim` is a size that depends on the batch."""


@dataclass(frozen=True)
class Buffer:
    """What a step writes. Kernels see it as rows of its last dimension."""

    name: str
    type: TensorType
    padded: bool = False
    """Whether memory is there for a multiple of `PADDING` rows; what lies in the rows past the last is undefined."""

    def matrix(self, batch: int) -> tuple[int, int]:
        """Rows and columns for one batch size, without padding."""
        shape = self.type.at(batch)
        return math.prod(shape[:-1]), shape[-1] if shape else 1

    def stored_rows(self, batch: int) -> int:
        """Rows that memory is there for."""
        rows, _ = self.matrix(batch)
        return -(-rows // PADDING) * PADDING if self.padded else rows


@dataclass(frozen=True)
class Step:
    """One kernel, or one operator of torch (`operator`, as a program's text spells it), and what it is given by name."""

    kernel: Kernel
    outputs: tuple[str, ...]
    arguments: Mapping[str, Argument]
    path: str = ""
    """The module path of the site that it implements, or of the module it belongs to."""
    operator: str = ""

    @property
    def reads(self) -> tuple[Value | Weight, ...]:
        """Every buffer and weight among the arguments."""
        return tuple(references(tuple(self.arguments.values())))


@dataclass(frozen=True)
class SiteChoice:
    """What became of a linear, a convolution or an attention."""

    path: str
    kind: Kind
    format: str
    """Number format and sparsity of its products: `int8 2:4`, `int8`, `fp16`."""
    kernel: str
    epilogue: tuple[str, ...] = ()
    """What else the kernels of this site compute: `bias`, `gelu`, `quantize`."""
    why: str = ""
    """Why it is not a faster kernel; empty where it is the one that its format has."""


@dataclass(frozen=True)
class Plan:
    """A program as steps. The first input's first dimension is the batch."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    buffers: Mapping[str, Buffer]
    weights: Mapping[str, TensorType]
    steps: tuple[Step, ...]
    sites: tuple[SiteChoice, ...] = field(default=())
    target: str = ""
    """The device that it was compiled for; empty where nobody said."""
    capability: str = ""
    """Its compute capability, such as `9.0`. Others are not refused: see `plan_folder`."""

    def counts(self) -> dict[str, int]:
        """How many steps each kernel has."""
        return dict(Counter(step.kernel for step in self.steps))

    def violations(self) -> list[str]:
        """What is wrong with it, line by line: names read before they are written or written twice, kernels and buffers that there are not."""
        found, written = list[str](), set(self.inputs)
        found += [f"{name}: is an input and is no buffer" for name in self.inputs if name not in self.buffers]
        for step in self.steps:
            found += [f"{step.kernel}: is no kernel"] if step.kernel not in KERNELS else []
            found += [f"{each.name}: is read before it is written" for each in step.reads if self._lacks(each, written)]
            found += [f"{name}: is written and is no buffer" for name in step.outputs if name not in self.buffers]
            found += [f"{name}: is written twice" for name in step.outputs if name in written]
            written |= set(step.outputs)
        return found + [f"{name}: is returned and never written" for name in self.outputs if name not in written]

    def _lacks(self, read: Value | Weight, written: set[str]) -> bool:
        return read.name not in (written if isinstance(read, Value) else self.weights)


def references(argument: Argument) -> Iterator[Value | Weight]:
    """Every buffer and weight in an argument."""
    if isinstance(argument, Value | Weight):
        yield argument
    elif isinstance(argument, tuple):
        for each in argument:
            yield from references(each)
