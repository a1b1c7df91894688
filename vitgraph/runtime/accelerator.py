"""A device with a memory and a clock of its own, as far as running and timing models there needs it.

`CudaCard` (vitgraph/runtime/cuda_card.py) is the one there is; tests put one in its place whose memory is the CPU's and whose
clock says what it is told to.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class CardFacts:
    """What a measurement has to say of the device that it was taken on."""

    name: str
    compute_capability: str
    driver: str
    memory_mib: int
    torch: str
    cuda: str
    """Of the toolkit that torch was built with."""

    def as_json(self) -> dict[str, str | int]:
        """For reports and `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class KernelTime:
    """What one kernel, or one layer of an engine, took in one run."""

    name: str
    seconds: float
    site: str = ""
    """The module path that it computes a part of; empty where the runtime does not say."""
    calls: int = 1


class Accelerator(Protocol):
    """The device that a runner keeps its model on."""

    def facts(self) -> CardFacts:
        """Its name, driver and versions."""
        ...

    def seconds(self, work: Callable[[], object]) -> float:
        """Between two events on the device, one ahead of what `work` puts into the device's queue and one after it; waits for both."""
        ...

    def used_bytes(self) -> int:
        """How much of its memory is taken, by whomever and for whatever."""
        ...

    def trim(self) -> None:
        """Release what torch keeps for later and does not use."""
        ...

    def synchronize(self) -> None:
        """Wait until all is done that was begun."""
        ...


class Card(Accelerator, Protocol):
    """The same, for who runs something there."""

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory on the device."""
        ...

    def queue(self) -> AbstractContextManager[int]:
        """The queue of this card for the block, and its handle for libraries; torch's own calls in the block go there too."""
        ...

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """What `run` puts into the queue, recorded once: what puts it there again, and its result, which is written over then."""
        ...
