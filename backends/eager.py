"""The reference: the graph as it is, in eager torch on the CPU. Every other backend is held to its numbers."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, TensorType
from vitgraph.pass_manager.numerics import flatten_outputs
from vitgraph.targets.target import Target


class EagerRunner:
    """A program that runs in torch, without gradients."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def run(self, batch: Tensor) -> Tensor:
        """The first output for a batch of the program's input type; `InputError` for another."""
        check_batch(batch, self.program.input_types()[0], self.program.name)
        return flatten_outputs(self.program.run(batch))[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None


class Eager:
    """Runs a Program of either form."""

    name: ClassVar[str] = "eager"

    def load(self, model: Program | Path, target: Target | None = None) -> EagerRunner:
        """The program itself; `target` makes no difference. An ONNX file is refused: `ort` runs those."""
        if isinstance(model, Path):
            raise InputError(f"{model}: the eager backend runs programs; use the ort backend for an ONNX file")
        if len(model.inputs) != 1:
            raise InputError(f"{model.name}: has {len(model.inputs)} inputs; a runner takes models of one")
        return EagerRunner(model)


def check_batch(batch: Tensor, wanted: TensorType, name: str) -> None:
    """Raise `InputError` unless the batch is of the wanted type; the batch size is free where it is N."""
    sizes = zip(batch.shape, wanted.shape, strict=False)
    fits = batch.dim() == wanted.rank and all(isinstance(want, Dim) or have == want for have, want in sizes)
    if not fits or batch.dtype != wanted.dtype:
        raise InputError(
            f"{name}: takes {wanted}, but the batch is {batch.dtype} {list(batch.shape)}; preprocess it so"
        )
