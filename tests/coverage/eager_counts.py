"""What a model computes, counted while it runs in eager mode: nothing of vitgraph has a say in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv"}
_CONVOLUTIONS = {"convolution", "_convolution", "convolution_overrideable"}
_SOFTMAXES = {"_softmax", "_safe_softmax", "_log_softmax"}


@dataclass(frozen=True)
class Counts:
    """Of one run: what the outputs depend on, and only that."""

    linears: int
    """Matrix products of a value that depends on the image with one that does not: nn.Linear, einsum and matmul alike."""
    convolutions: int
    """The same of convolutions, transposed ones among them."""
    softmaxes: int
    """Of values that depend on the image, those inside of fused attentions among them."""


def count(model: nn.Module, image: Tensor) -> Counts:
    """Run a model on an image and count."""
    fast: Any = torch.backends.mha
    mode, enabled = _Recorded(image), fast.get_fastpath_enabled()
    fast.set_fastpath_enabled(False)  # it hides whole layers in one operator
    try:
        with torch.no_grad(), mode:
            outputs = model(image)
    finally:
        fast.set_fastpath_enabled(enabled)
    return mode.counts(_places(outputs))


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, Tensor)]


def _places(values: Any) -> set[int]:
    """Where tensors lie in memory: a view lies where its source does, so that what is written through it is seen."""
    return {each.untyped_storage()._cdata for each in _tensors(values)}  # pyright: ignore[reportPrivateUsage]


@dataclass(frozen=True)
class _Step:
    """An operator that read the image, or what was computed of it."""

    counted_as: str | None
    read: set[int]
    written: set[int]


class _Recorded(TorchDispatchMode):
    """Follows what depends on the image through every operator."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
        self._dependent = _places(image)
        self._steps = list[_Step]()
        self._alive = list[Any]()
        """So that no other tensor gets a place that is known."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        read, written = _places((args, kwargs)), _places(out)
        self._alive.append((args, kwargs, out))
        if read & self._dependent:
            self._steps.append(_Step(self._kind(func.overloadpacket.__name__, args), read, written))
            self._dependent |= written
        return out

    def counts(self, needed: set[int]) -> Counts:
        """Of the steps that these places depend on."""
        found, needed = Counter[str | None](), set(needed)
        for step in reversed(self._steps):
            if step.written & needed:
                found[step.counted_as] += 1
                needed |= step.read
        return Counts(found["linear"], found["convolution"], found["softmax"])

    def _kind(self, name: str, args: tuple[Any, ...]) -> str | None:
        if name in _SOFTMAXES:
            return "softmax" if args[0].shape[args[1]] > 1 else None  # of one element it is 1
        if name.startswith("_scaled_dot_product"):
            return "softmax" if args[1].shape[-2] > 1 else None
        if name in _CONVOLUTIONS:
            return "convolution" if self._weighs(args[0], args[1]) else None
        if name in _PRODUCTS:
            return "linear" if self._weighs(*(args if len(args) == 2 else args[1:3])) else None
        return None

    def _weighs(self, left: Tensor, right: Tensor) -> bool:
        """Does one of two factors depend on the image, and the other not?"""
        return bool(_places(left) & self._dependent) != bool(_places(right) & self._dependent)
