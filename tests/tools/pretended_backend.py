"""A backend whose device pretends: programs in eager torch, timed by a clock that says what it is told to."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor

from tests.backends.pretended_card import PretendedCard
from tests.backends.tensorrt.fake_runtime import FakeBindings
from vitgraph import backends
from vitgraph.backends import all_backends
from vitgraph.backends.eager import EagerRunner
from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.runtime.accelerator import KernelTime
from vitgraph.runtime.backend import Execution, Source, Violation
from vitgraph.targets.target import Target

MOST = 16
"""Images in a batch that its memory holds."""
SECONDS = (0.004, 0.001, 0.002, 0.003)
"""What the device's clock says, in turns."""


class PretendedRunner(EagerRunner):
    """Eager, as if on a card."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.card = PretendedCard(seconds=SECONDS)

    @property
    def accelerator(self) -> PretendedCard:
        return self.card

    def compute(self, batch: Tensor) -> Tensor:
        if len(batch) > MOST:
            raise InputError(f"{self.name}: the GPU's memory does not hold a batch of {len(batch)}")
        self.card.empty((2**18,), batch.dtype)  # a MiB of FP32, so that there is memory to tell of
        return super().compute(batch)

    def resident(self, batch: Tensor) -> Callable[[], object]:
        self.compute(batch)
        return lambda: None

    def kernel_times(self, batch: Tensor) -> Sequence[KernelTime]:
        return [KernelTime("gemm", 3e-6, "blocks.0.mlp.fc1", 2), KernelTime("copy", 1e-6)]

    def execution(self, batch: int) -> Execution:
        return Execution({"head": "int8"}, {}, {"runtime": "pretended 1.0"})


class Pretended:
    name: ClassVar[str] = "pretended"
    source: ClassVar[Source] = "program"

    def refusal(self, target: Target | None) -> str | None:
        """None."""
        return None

    def load(self, model: Program | Path, target: Target | None = None, *, threads: int = 0) -> PretendedRunner:
        assert isinstance(model, Program)
        return PretendedRunner(model)


class Broken(Pretended):
    """One whose engine is not what was planned."""

    name: ClassVar[str] = "broken"

    def load(self, model: Program | Path, target: Target | None = None, *, threads: int = 0) -> PretendedRunner:
        runner = super().load(model)
        runner.violations = (Violation("blocks.0.mlp.fc1", "int8 gemm", "fp16", "it fell back"),)
        return runner


@contextmanager
def pretended_installed() -> Generator[None]:
    """The two are backends inside the block."""
    module = "tests.tools.pretended_backend"
    with pytest.MonkeyPatch.context() as patch:
        own: Any = backends.OWN
        patch.setitem(own, "pretended", f"{module}:Pretended")
        patch.setitem(own, "broken", f"{module}:Broken")
        all_backends.cache_clear()
        yield
    all_backends.cache_clear()


@contextmanager
def engines_run() -> Generator[None]:
    """`--backend tensorrt` runs engines of bindings that pretend."""
    card = PretendedCard(seconds=SECONDS)

    def bindings(flavour: str) -> FakeBindings:
        return FakeBindings(card)

    place = "vitgraph.backends.tensorrt.loading"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITGRAPH_CACHE", "")
        patch.setattr(f"{place}.unrunnable_why", lambda: None)
        patch.setattr(f"{place}.CudaCard", lambda: card)
        patch.setattr(f"{place}.import_bindings", bindings)
        yield
