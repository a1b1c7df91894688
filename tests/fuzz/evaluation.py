"""A recipe run line by line in eager torch; with noise, it shows how far rounding alone can move each value.

After every ATen operator noise of a few roundings is added to its result (Monte Carlo arithmetic, Parker 1997). Where two such
runs part further than rounding explains, a graph is ill-posed: ties of argmax, a floor at a step, cancellation. The generator
leaves such operators out, so that a difference found later is a fault and no accident.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.fuzz.recipe import Recipe, Step, namespace, seed_line

ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Noise added to each result by type, relative; float64 gets float32's, in which runtimes may compute."""
SUMS = {"aten::add", "aten::add_", "aten::sub", "aten::sub_", "aten::rsub"}
"""Operators whose result may be whole because a small part of it was lost: 1 + 1e-5 in half is 1."""
SORTS = {"aten::sort", "aten::argsort", "aten::topk"}
"""Operators that put numbers in order, and NaN in any."""
GROWTH = 20
"""How many times the noise of one operator a value may carry."""


class Noise(TorchDispatchMode):
    """Adds noise to what every operator computes: not to views and new constants, nor to whole numbers, which are exact."""

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
        self._generator = torch.Generator().manual_seed(seed)
        self.coarsest = 0.0
        """The rounding of the coarsest type met: what went through it is no finer afterwards."""
        self.unordered = False
        """Whether NaN was sorted: in what order several of them come is nobody's promise."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _magnifies(func):  # what is left of equal numbers is noise, even where these are whole
            args = tuple(self._moved(each) if isinstance(each, Tensor) else each for each in args)
        if func._schema.name in SORTS and isinstance(args[0], Tensor):
            self.unordered |= int(args[0].isnan().sum()) > 1
        absorbed = func._schema.name in SUMS and not all(map(_is_whole, tree_leaves((args, kwargs))))
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.copy_.default and args[0].dtype == getattr(args[1], "dtype", None):
            return result  # as exact as a view; and what is not yet written beside it would have its say in the noise
        taken = {_storage(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        for each in tree_leaves(result) if taken else ():
            if isinstance(each, Tensor) and (func._schema.is_mutable or _storage(each) not in taken):
                self.disturb(each, absorbed)
        return result

    def _moved(self, value: Tensor) -> Tensor:
        """A copy with noise on every number, of its own size."""
        size = ROUNDING.get(value.dtype)
        if size is None or value.numel() == 0:
            return value
        noise = torch.randn(value.shape, generator=self._generator).to(value.dtype)
        return value + noise * value.abs() * size

    def disturb(self, value: Tensor, wholes: bool = False) -> Tensor:
        """Noise on what is there, in place, on `wholes` too; the value itself is returned."""
        size = ROUNDING.get(value.dtype)
        if size is None or value.numel() == 0 or 0 in value.stride():
            return value
        self.coarsest = max(self.coarsest, size)
        noise = torch.randn(value.shape, generator=self._generator).to(value.dtype)
        return value.add_(noise * spread_of(value) * size * ((value != value.round()) | wholes))


def _magnifies(func: Any) -> bool:
    """Does an operator divide by how far numbers are apart?"""
    name = str(func)
    return "norm" in name and "vector_norm" not in name


def _is_whole(value: Any) -> bool:
    """Is this no fraction, and no tensor with one?"""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool((value == value.round()).all())
    return not isinstance(value, float) or value.is_integer()


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Evaluation:
    """The values of a recipe's lines on one input, by name."""

    def __init__(self, x: Tensor, noise: int | None = None) -> None:
        """`noise` is the seed of the noise; None for none."""
        self._noise = None if noise is None else Noise(noise)
        self.values: dict[str, Any] = {"x": self._noise.disturb(x) if self._noise else x}
        self.module = nn.Module()
        self._names = {**namespace(), "self": self.module}

    @classmethod
    def of(cls, recipe: Recipe, x: Tensor, noise: int | None = None) -> Evaluation:
        """All of a recipe."""
        found = cls(x, noise)
        for name, code in recipe.weights:
            found.add_weight(name, code)
        for step in recipe.steps:
            found.run(step)
        return found

    def add_weight(self, name: str, code: str) -> None:
        """Make a weight, as the module's constructor does."""
        exec(f"{seed_line(name)}\nself.{name} = {code}", self._names)  # noqa: S102  lines of our own tables
        self.module.eval()

    def run(self, step: Step) -> None:
        """One line; whatever torch raises comes through."""
        with torch.no_grad(), self._noise or nullcontext():
            exec(str(step), self._names, self.values)  # noqa: S102  lines of our own tables

    @property
    def rounding(self) -> float:
        """Of the coarsest type that anything was computed in, relative; FP32's at least."""
        return max(ROUNDING[torch.float32], self._noise.coarsest if self._noise else 0.0)

    def owned(self, name: str) -> bool:
        """May this value be written into: does it share memory with neither the input nor a weight?"""
        kept = [self.values["x"], *self.module.state_dict().values()]
        return _storage(self.values[name]) not in map(_storage, kept)


def spread_of(value: Tensor) -> Tensor:
    """What an error is relative to, `value`'s shape: the size of each element and the root mean square of all."""
    finite = value.double().nan_to_num(0.0, 0.0, 0.0)
    return (finite.abs() + finite.square().mean().sqrt()).to(value.dtype)


def steady(exact: Any, noisy: Any, rounding: float) -> bool:
    """Is a value what it is, whatever the rounding (relative)? Whole numbers and truth values must not move at all."""
    if not isinstance(exact, Tensor) or exact.shape != noisy.shape or exact.dtype != noisy.dtype:
        return False
    if not exact.dtype.is_floating_point:
        return torch.equal(exact, noisy)
    if not torch.equal(exact.isfinite(), noisy.isfinite()):
        return False
    moved = (exact.double() - noisy.double()).nan_to_num(0.0, 0.0, 0.0).abs()
    return bool((moved <= GROWTH * rounding * spread_of(exact.double()) + 1e-30).all())
