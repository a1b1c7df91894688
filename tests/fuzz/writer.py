"""Fills the slots of an operator's template: which values, weights and numbers it is given.

A slot is `{name}`, or `{name:a|b|c}`, one of these texts; the same slot twice in a template is the same text. `{x}`, the first value, is what the
others are chosen to fit: `{dim}` is one of its dimensions, `{y}` something that broadcasts with it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tests.fuzz.draft import Draft

Where = Callable[[Tensor], bool]
Slot = Callable[["Writer"], str]

NUMBERS = ("0.5", "2", "-1.5", "3", "0.1", "1", "0", "-1", "1e-05", "100.0", "-0.0", "0.125", "65504", "1e-09", "True")
"""Python numbers of every size that an operand may be."""


class NoFit(Exception):
    """There is nothing in the draft that this operator takes."""


class Writer:
    """Writes one line; `weights` are those it made on the way."""

    def __init__(self, draft: Draft, rng: random.Random) -> None:
        self.draft, self.rng = draft, rng
        self.weights = dict[str, str]()
        self.first = ""

    # ---- values

    def value(self, where: Where = lambda _: True) -> str:
        """A value that fits, a late one rather than an early one; the first one taken is what the slots refer to."""
        known = [name for name, tensor in self.draft.tensors().items() if where(tensor)]
        if not known:
            raise NoFit
        back = min(int(self.rng.expovariate(0.5)), len(known) - 1)
        name = known[-1 - back]
        self.first = self.first or name
        return name

    def floats(self, ranks: Sequence[int] = range(7), where: Where = lambda _: True) -> str:
        """A floating-point value of one of these ranks."""
        return self.value(lambda t: t.dtype.is_floating_point and t.dim() in ranks and where(t))

    def distinct(self, ranks: Sequence[int]) -> str:
        """A floating-point value without ties, whatever the batch."""
        names = {id(tensor): name for name, tensor in self.draft.tensors().items()}
        return self.floats(ranks, lambda t: all(are_distinct(each.values[names[id(t)]]) for each in self.draft.all))

    def tensor(self, name: str = "") -> Tensor:
        """The sample's value of a name, the first one's unless another is named."""
        if not name and not self.first:
            raise NoFit
        return self.draft.tensors()[name or self.first]

    def size(self, dim: int, name: str = "") -> str:
        """A size as text: a number, or read off where it depends on the batch."""
        name = name or self.first
        return f"{name}.shape[{dim}]" if self.draft.is_open(name, dim) else str(self.tensor(name).shape[dim])

    def fixed(self, name: str = "") -> list[int]:
        """The dimensions whose size does not depend on the batch."""
        name = name or self.first
        return [dim for dim in range(self.tensor(name).dim()) if not self.draft.is_open(name, dim)]

    # ---- weights

    def make(self, code: str, kind: str = "w") -> str:
        """A new weight (or buffer, or layer) made by this expression."""
        name = f"{kind}{len(self.draft.weights) + len(self.weights) + 100 * len(self.draft.steps)}"
        self.weights[name] = code
        return f"self.{name}"

    def weight(self, *shape: int, dtype: torch.dtype | None = None) -> str:
        """A parameter or a buffer of random numbers; now and then one that is tied: the same as another."""
        dtype = dtype or self.tensor().dtype
        tied = [
            name
            for name in self.draft.weights
            if isinstance(t := getattr(self.draft.exact.module, name), Tensor) and t.shape == shape and t.dtype == dtype
        ]
        if tied and self.rng.random() < 0.3:
            return f"self.{self.rng.choice(tied)}"
        kind = self.rng.choice(("nn.Parameter", "nn.Buffer"))
        of_type = "" if dtype == torch.float32 else f", dtype={dtype}"
        return self.make(f"{kind}(torch.randn({list(shape)}{of_type}))")

    def buffer(self, code: str) -> str:
        """A buffer made by this expression."""
        return self.make(f"nn.Buffer({code})", "c")

    # ---- operands

    def number(self) -> str:
        """A Python number."""
        return self.rng.choice(NUMBERS)

    def operand(self, name: str = "") -> str:
        """Something that broadcasts with a value: a value, a weight, a constant, a number."""
        like = self.tensor(name)
        fitting = [
            lambda: self.value(lambda t: t.dtype != torch.bool and t.shape == like.shape),
            lambda: self.value(lambda t: t.dtype.is_floating_point and _broadcasts(t, like)),
            lambda: self.weight(*self.part_of_shape(name), dtype=like.dtype if like.dtype.is_floating_point else None),
            lambda: self.buffer(f"torch.tensor({self.number()})"),
            lambda: self.buffer(f"torch.tensor({self.rng.choice((-1, 2, 3))})"),
            lambda: f"torch.tensor({self.number()})",
            self.number,
        ]
        return self.rng.choice(fitting)()

    def part_of_shape(self, name: str = "") -> list[int]:
        """A shape that broadcasts with a value's: some of its last sizes, some of them 1, now and then one more."""
        name = name or self.first
        sizes = [1 if self.draft.is_open(name, dim) else size for dim, size in enumerate(self.tensor(name).shape)]
        kept = sizes[self.rng.randint(0, len(sizes)) :]
        kept = [1 if self.rng.random() < 0.25 else size for size in kept]
        return [self.rng.choice((1, 2)), *sizes] if self.rng.random() < 0.05 and len(sizes) < 4 else kept

    def dim(self, name: str = "", among: Sequence[int] | None = None) -> int:
        """A dimension, counted from the front or from the back."""
        rank = self.tensor(name).dim()
        among = range(rank) if among is None else among
        if not among:
            raise NoFit
        dim = self.rng.choice(among)
        return dim - rank if self.rng.random() < 0.5 else dim

    def dims(self, name: str = "") -> list[int]:
        """At least one dimension, in any order."""
        rank = self.tensor(name).dim()
        if rank == 0:
            raise NoFit
        chosen = self.rng.sample(range(rank), self.rng.randint(1, rank))
        return [dim - rank if self.rng.random() < 0.4 else dim for dim in chosen]

    def either(self, *texts: str) -> str:
        """One of these."""
        return self.rng.choice(texts)


def are_distinct(tensor: Tensor) -> bool:
    """Are no two elements the same?"""
    return bool((tensor.flatten().sort().values.diff() != 0).all())


def _broadcasts(a: Tensor, b: Tensor) -> bool:
    return all(x == y or 1 in (x, y) for x, y in zip(reversed(a.shape), reversed(b.shape), strict=False))


SLOT = re.compile(r"\{(\w+)(?::([^}]*))?\}")


def fill(template: str, writer: Writer, *tables: Mapping[str, Slot]) -> str:
    """The template with its slots filled, those of the first table first; `{name:a|b|c}` is one of these texts."""
    filled = dict[str, str]()
    for table in tables:
        for match in SLOT.finditer(template):
            slot = table.get(match[1].rstrip("0123456789"))
            if match[2]:
                filled.setdefault(match[0], writer.rng.choice(match[2].split("|")))
            elif slot is not None and match[0] not in filled:
                filled[match[0]] = slot(writer)
    return SLOT.sub(lambda match: filled[match[0]], template)
