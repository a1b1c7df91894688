"""What an interpreted kernel reads and writes: every place has to be in one of its tensors.

Tensors lie between guards, memory full of one number, so that a place just past a tensor is memory of this process.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

GUARD = 1 << 16
"""Numbers on each side."""
FILL = 77


class Guarded:
    """A tensor between guards."""

    def __init__(self, tensor: Tensor) -> None:
        self.before = tensor.clone()
        self.memory = torch.full((tensor.numel() + 2 * GUARD,), FILL, dtype=tensor.dtype)
        self.view = self.memory[GUARD : GUARD + tensor.numel()].view(tensor.shape)
        self.view.copy_(tensor)

    def is_damaged(self, rows: int) -> bool:
        """Whether the guards were written to, or the tensor from a row on."""
        ends = torch.cat([self.memory[:GUARD], self.memory[GUARD + self.view.numel() :]])
        return not (torch.equal(self.view[rows:], self.before[rows:]) and bool((ends == FILL).all()))

    def holds(self, places: Any) -> Any:
        """Which addresses, a NumPy array of integers, are in the tensor."""
        start = self.view.data_ptr()
        return (places >= start) & (places < start + self.view.nbytes)


@contextmanager
def outside(tensors: Mapping[str, Guarded]) -> Generator[list[str]]:
    """A list that says, afterwards, whether kernels read or wrote outside of these tensors."""
    memory: Any = import_module("triton._C.libtriton").interpreter  # what the interpreter reads and writes memory by
    load, store = memory.load, memory.store
    faults = list[str]()

    def check(what: str, places: Any, mask: Any) -> None:
        wanted = places[mask]
        stray = len(wanted) - sum(int(tensor.holds(wanted).sum()) for tensor in tensors.values())
        if stray:
            faults.append(f"{what} {stray} places outside of its tensors")

    def checked_load(places: Any, mask: Any, *more: Any) -> Any:
        check("reads", places, mask)
        return load(places, mask, *more)

    def checked_store(places: Any, value: Any, mask: Any) -> Any:
        check("writes", places, mask)
        return store(places, value, mask)

    memory.load, memory.store = checked_load, checked_store
    try:
        yield faults
    finally:
        memory.load, memory.store = load, store
