"""An optimizer and its schedule, both timm's, and the moving average of what they change."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from timm.optim._optim_factory import create_optimizer_v2, list_optimizers
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.training.settings import Optimization


def check_optimizer(name: str) -> None:
    """Raise `InputError` for a name that timm has no optimizer of."""
    known = [str(each) for each in list_optimizers()]
    if name not in known:
        raise InputError(
            f"opt {name!r}: timm has no such optimizer; there are {', '.join(known[:12])} … (timm.optim.list_optimizers())"
        )


class Optimizer:
    """Steps of a timm optimizer, at the rate that a timm schedule has for each."""

    def __init__(self, groups: list[dict[str, Any]], settings: Optimization, steps_an_epoch: int) -> None:
        check_optimizer(settings.opt)
        self.settings = settings
        self.inner: Any = create_optimizer_v2(
            groups, opt=settings.opt, lr=settings.lr, weight_decay=settings.weight_decay, momentum=settings.momentum
        )
        self._schedule: Any = create_scheduler_v2(
            self.inner,
            sched=settings.sched,
            num_epochs=settings.epochs,
            decay_epochs=max(1, settings.epochs // 3) if settings.sched == "step" else None,
            warmup_epochs=settings.warmup_epochs,  # type: ignore[arg-type]  # half an epoch is one, counted in steps
            warmup_lr=settings.warmup_lr,
            min_lr=settings.min_lr,
            step_on_epochs=False,
            updates_per_epoch=steps_an_epoch,
        )[0]

    def set_rate(self, step: int) -> float:
        """Set the learning rate of a step, counted from 0; the rate of weights."""
        self._schedule.step_update(step + 1)
        rate: float = self.inner.param_groups[0]["lr"]
        return rate

    def state(self) -> dict[str, Any]:
        """What it knows of each parameter and group."""
        state: dict[str, Any] = self.inner.state_dict()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.inner.load_state_dict(dict(state))


class Average:
    """The moving average of some tensors: by 1 - decay a step towards what they are; at first by more, so that the start is forgotten."""

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay, self.tensors = decay, dict(tensors)
        self.averages = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After a step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs: Any = torch
        pairs._foreach_lerp_(list(self.averages.values()), [each.detach() for each in self.tensors.values()], 1 - decay)

    @contextmanager
    def applied(self) -> Generator[None]:
        """The tensors are their averages inside the block."""
        own = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        try:
            self._put(self.averages)
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self.tensors.items():
            tensor.copy_(values[name])

    def restore(self, averages: Mapping[str, Tensor]) -> None:
        """Take over averages that were kept."""
        for name, tensor in averages.items():
            self.averages[name].copy_(tensor)
