"""One process, or several that train together: what training asks of them. `accelerate` is an extra and met here alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vitgraph.errors import InputError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Processes:
    """This process's place among them, and its device; without an accelerator the only one, on the CPU."""

    def __init__(self, accelerator: Any = None) -> None:
        self.accelerator = accelerator
        self.rank: int = 0 if accelerator is None else accelerator.process_index
        self.count: int = 1 if accelerator is None else accelerator.num_processes
        self.device: torch.device = torch.device("cpu") if accelerator is None else accelerator.device

    @classmethod
    def accelerated(cls) -> Processes:
        """As `accelerate launch` (or accelerate's own settings) say; `InputError` where it is not installed."""
        try:
            accelerate: Any = import_module("accelerate")
        except ImportError as error:
            raise InputError(
                "--accelerate: accelerate is not installed: pip install 'vitgraph[accelerate]', or leave it out"
            ) from error
        return cls(accelerate.Accelerator())

    def prepare(self, model: nn.Module, optimizer: Any) -> tuple[nn.Module, Any]:
        """The model, on this process's device, such that gradients are averaged over processes; and its optimizer."""
        if self.accelerator is None:
            return model, optimizer
        prepared: tuple[nn.Module, Any] = self.accelerator.prepare(model, optimizer)
        return prepared

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss."""
        if self.accelerator is None:
            torch.autograd.backward(loss)
        else:
            self.accelerator.backward(loss)

    def map(self, work: Callable[[Item], Outcome], items: Sequence[Item]) -> list[Outcome]:
        """The work's answer for each item; each process does its part, and all get all the same answers."""
        mine = [(place, work(items[place])) for place in range(self.rank, len(items), self.count)]
        if self.count > 1:
            gather: Any = import_module("accelerate.utils").gather_object
            mine = gather(mine)
        return [answer for _, answer in sorted(mine, key=lambda each: each[0])]
