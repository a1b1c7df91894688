"""The reference: the graph as it is, in eager torch, on the device that its tensors are on (the CPU unless they were moved).

Every other backend is held to its numbers.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.pass_manager.numerics import flatten_outputs
from vitgraph.runtime.backend import Runner, Source
from vitgraph.targets.target import Target


class EagerRunner(Runner):
    """A program that runs in torch, without gradients; `threads` of 0 leaves the number to torch."""

    def __init__(self, program: Program, threads: int = 0) -> None:
        wanted = program.input_types()[0]
        shape = tuple(size if isinstance(size, int) else None for size in wanted.shape)
        super().__init__(program.name, shape, wanted.dtype)
        self.program = program
        self.threads = threads

    def compute(self, batch: Tensor) -> Tensor:
        """The first output, on the CPU."""
        device = next((tensor.device for tensor in self.program.tensors().values()), batch.device)
        with _threads(self.threads):
            return flatten_outputs(self.program.run(batch.to(device)))[0].cpu()


class Eager:
    """Runs a Program of either form."""

    name: ClassVar[str] = "eager"
    source: ClassVar[Source] = "program"

    def refusal(self, target: Target | None) -> str | None:
        """None: torch is always there."""
        return None

    def load(self, model: Program | Path, target: Target | None = None, *, threads: int = 0) -> EagerRunner:
        """The program itself; `target` makes no difference. An ONNX file is refused: `ort` runs those."""
        if isinstance(model, Path):
            raise InputError(f"{model}: the eager backend runs programs; use the ort backend for an ONNX file")
        if len(model.inputs) != 1:
            raise InputError(f"{model.name}: has {len(model.inputs)} inputs; a runner takes models of one")
        return EagerRunner(model, threads)


@contextmanager
def _threads(count: int) -> Generator[None]:
    """Torch's number of threads is the process's: it is restored, for others run in turns with this."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count:
            torch.set_num_threads(before)
