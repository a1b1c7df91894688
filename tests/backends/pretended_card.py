"""A card whose memory is the CPU's and whose clock says what it is told to."""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from itertools import cycle

import torch
from torch import Tensor

from vitgraph.runtime.accelerator import CardFacts

FACTS = CardFacts("Pretended GPU", "8.0", "580.1", 1024, "2.0", "13.0")


class PretendedCard:
    """What runs there runs at once, on the CPU."""

    def __init__(self, facts: CardFacts = FACTS, seconds: Iterable[float] = (0.002,)) -> None:
        self._facts, self._clock = facts, cycle(seconds)
        self.memory = dict[int, Tensor]()
        """By address, for who is handed addresses."""
        self.captures, self.timed, self.full = 0, 0, False
        self.uncapturable = ""

    def facts(self) -> CardFacts:
        return self._facts

    def seconds(self, work: Callable[[], object]) -> float:
        self.timed += 1
        work()
        return next(self._clock)

    def used_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.memory.values())

    def trim(self) -> None:
        """There is nothing to release."""

    def synchronize(self) -> None:
        """All is done already."""

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if self.full:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate …")
        tensor = torch.full(shape, 7).to(dtype)
        self.memory[tensor.data_ptr()] = tensor
        return tensor

    @contextmanager
    def queue(self) -> Generator[int]:
        yield 77

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        if self.uncapturable:
            raise RuntimeError(self.uncapturable)
        self.captures += 1
        result = run()

        def replay() -> None:
            result.copy_(run())

        return replay, result
