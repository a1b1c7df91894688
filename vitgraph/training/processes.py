"""One process, or several that train together: what training asks of them. `accelerate` is met here alone."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vitgraph.errors import InputError

_log = logging.getLogger("vitgraph")
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Processes:
    """This process's place among them, and its device; without an accelerator the only one, on the CPU."""

    def __init__(self, accelerator: Any = None, precision_why: str | None = None) -> None:
        self.accelerator = accelerator
        self.precision: str = "no" if accelerator is None else accelerator.mixed_precision
        self.precision_why = precision_why
        """Why products are not in the precision that was asked for."""
        self.rank: int = 0 if accelerator is None else accelerator.process_index
        self.count: int = 1 if accelerator is None else accelerator.num_processes
        self.device: torch.device = torch.device("cpu") if accelerator is None else accelerator.device

    @classmethod
    def accelerated(
        cls, precision: str | None = None, compiled: bool = False, tensorboard: Path | None = None
    ) -> Processes:
        """As `accelerate launch` (or accelerate's own settings) say, in `no`, `bf16` or `fp16` mixed precision if that is given.

        A CPU that would take many times as long in BF16 computes in FP32, and a warning says so. `compiled`: models run through `torch.compile`; `tensorboard`: a folder for what is logged. Raises `InputError` for a precision
        that can't be had here, where the package tensorboard is absent, and where torch.compile lacks what it needs.
        """
        accelerate: Any = import_module("accelerate")
        plugin: Any = import_module("accelerate.utils").TorchDynamoPlugin
        inductor = plugin(backend="inductor", dynamic=False) if compiled else None
        if tensorboard is not None and find_spec("tensorboard") is None:
            raise InputError(
                f"tensorboard {tensorboard}: the package is not installed; pip install 'vitgraph[tensorboard]'"
            )
        why = _slow_in_bf16(accelerate.PartialState().device) if precision == "bf16" else None
        if why is not None:
            _log.warning("amp bf16: %s", why)
            precision = "no"
        logs = {} if tensorboard is None else {"log_with": "tensorboard", "project_dir": str(tensorboard)}
        try:
            accelerator = accelerate.Accelerator(mixed_precision=precision, dynamo_plugin=inductor, **logs)
        except ValueError as error:
            raise InputError(f"amp {precision}: accelerate can't train so here: {error}") from error
        if compiled:
            _check_compiler(accelerator.device)
        if logs:
            accelerator.init_trackers("")
        return cls(accelerator, why)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """To TensorBoard, where that was asked for."""
        if self.accelerator is not None and self.accelerator.trackers:
            self.accelerator.log(dict(values), step=step)

    def end(self) -> None:
        """All that is logged is written."""
        if self.accelerator is not None and self.accelerator.trackers:
            self.accelerator.end_training()

    def prepare(self, model: nn.Module, optimizer: Any) -> tuple[nn.Module, Any]:
        """The model, on this process's device, such that gradients are averaged over processes; and its optimizer."""
        if self.accelerator is None:
            return model, optimizer
        prepared: tuple[nn.Module, Any] = self.accelerator.prepare(model, optimizer)
        return prepared

    def prepare_teacher(self, model: nn.Module) -> nn.Module:
        """A model on this process's device that only answers."""
        if self.accelerator is None:
            return model
        prepared: nn.Module = self.accelerator.prepare_model(model, evaluation_mode=True)
        return prepared

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss."""
        if self.accelerator is None:
            torch.autograd.backward(loss)
        else:
            self.accelerator.backward(loss)

    def clip(self, model: nn.Module, largest: float | None) -> None:
        """Scale gradients down to a norm of `largest` at most."""
        if largest is None:
            return
        if self.accelerator is None:
            nn.utils.clip_grad_norm_(model.parameters(), largest)
        else:
            self.accelerator.clip_grad_norm_(model.parameters(), largest)

    def autocast(self) -> AbstractContextManager[Any]:
        """Products in the type of mixed precision, where there is one."""
        found: AbstractContextManager[Any] = nullcontext() if self.accelerator is None else self.accelerator.autocast()
        return found

    def apart(self, model: nn.Module, on: bool = True) -> AbstractContextManager[Any]:
        """Gradients of the block stay this process's own: more are to be added to them."""
        if self.accelerator is None or not on:
            return nullcontext()
        found: AbstractContextManager[Any] = self.accelerator.no_sync(model)
        return found

    def mean(self, value: Tensor) -> Tensor:
        """The mean over processes."""
        if self.count == 1:
            return value
        found: Tensor = self.accelerator.reduce(value, reduction="mean")
        return found

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            self.accelerator.wait_for_everyone()

    def map(self, work: Callable[[Item], Outcome], items: Sequence[Item]) -> list[Outcome]:
        """The work's answer for each item; each process does its part, and all get all the same answers."""
        mine = [(place, work(items[place])) for place in range(self.rank, len(items), self.count)]
        if self.count > 1:
            gather: Any = import_module("accelerate.utils").gather_object
            mine = gather(mine)
        return [answer for _, answer in sorted(mine, key=lambda each: each[0])]


def _slow_in_bf16(device: torch.device) -> str | None:
    """Why BF16 is no gain on this device: an x86 CPU without AVX-512 has no fast product of it; None elsewhere."""
    known = torch.backends.cpu.get_cpu_capability()
    if (
        device.type != "cpu"
        or platform.machine().lower() not in ("x86_64", "amd64")
        or known not in ("DEFAULT", "AVX2")
    ):
        return None
    return "this CPU has no AVX-512, without which BF16 products take many times as long as FP32's; they are FP32 here"


def _check_compiler(device: torch.device) -> None:
    """Raise `InputError` where `torch.compile` can't compile even a negation."""
    try:
        torch.compile(torch.neg)(torch.zeros(8, device=device))
    except RuntimeError as error:
        reason = next((line for line in str(error).splitlines() if line), type(error).__name__)
        raise InputError(
            f"torchcompile: torch.compile does not work here: {reason}; install what it asks for, or train without it"
        ) from error
