"""A module as data: one input, weights, and one line of Python for each operator; so it can be cut down, and printed as a test."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

NAME = re.compile(r"\b(?:x|v\d+)\b")
WEIGHT = re.compile(r"\bself\.(\w+)")


@dataclass(frozen=True)
class Input:
    """The only input of a module; `dynamic` leaves its first dimension open."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    dynamic: bool = False

    def sample(self, seed: int, batch: int | None = None) -> Tensor:
        """Seeded values of this shape, with another batch where one is given."""
        generator = torch.Generator().manual_seed(seed)
        shape = self.shape if batch is None else (batch, *self.shape[1:])
        if self.dtype.is_floating_point:
            return torch.randn(shape, generator=generator).to(self.dtype)
        return torch.randint(0, 2, shape, generator=generator).to(self.dtype)


@dataclass(frozen=True)
class Step:
    """One line of `forward`: the names it gives (none where it only writes into a value), and an expression or a statement."""

    gives: tuple[str, ...]
    code: str

    def __str__(self) -> str:
        return f"{', '.join(self.gives)} = {self.code}" if self.gives else self.code

    @property
    def reads(self) -> frozenset[str]:
        """The values it uses."""
        return frozenset(NAME.findall(self.code))

    @property
    def writes(self) -> bool:
        """Does it write into a value?"""
        return not self.gives or re.search(r"\w_\(|inplace=True|out=", self.code) is not None

    def renamed(self, old: str, new: str) -> Step:
        """The same line with another value in place of one it reads."""
        return replace(self, code=re.sub(rf"\b{old}\b", new, self.code))


@dataclass(frozen=True)
class Recipe:
    """A module: `weights` are expressions by name, each made with a seed of its own; `outputs` are values by name."""

    input: Input
    weights: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    def trimmed(self) -> Recipe:
        """Without the steps and weights that no output needs; what writes into a value stays."""
        needed, steps = set(self.outputs), list[Step]()
        for step in reversed(self.steps):
            if step.writes or needed.intersection(step.gives):
                needed |= step.reads
                steps.append(step)
        used = set(WEIGHT.findall("\n".join([*(step.code for step in steps), *self.outputs])))
        weights = tuple((name, code) for name, code in self.weights if name in used)
        return replace(self, weights=weights, steps=tuple(reversed(steps)))

    def source(self) -> str:
        """The module as Python, by the name of `Model`."""
        made = [line for name, code in self.weights for line in (seed_line(name), f"self.{name} = {code}")]
        lines = ["class Model(nn.Module):"]
        if made:
            lines += [
                "    def __init__(self) -> None:",
                "        super().__init__()",
                *(f"        {one}" for one in made),
            ]
            lines += [""]
        lines += ["    def forward(self, x: Tensor) -> object:", *(f"        {step}" for step in self.steps)]
        return "\n".join([*lines, f"        return {', '.join(self.outputs)}", ""])

    def build(self) -> nn.Module:
        """The module, in eval mode."""
        names = namespace()
        exec(compile(self.source(), "<fuzz>", "exec"), names)  # noqa: S102  lines of our own tables
        model: nn.Module = names["Model"]()
        return model.eval()


def seed_line(name: str) -> str:
    """Each weight has a seed of its own: it stays what it is when others are cut away."""
    return f"seed({int(re.sub(r'[^0-9]', '', name) or 0)})"


def seed(number: int) -> None:
    """From here on, torch's random numbers are those of this seed."""
    torch.manual_seed(number)  # pyright: ignore[reportUnknownMemberType]


def namespace() -> dict[str, Any]:
    """What the lines of a recipe may name."""
    return {"math": __import__("math"), "torch": torch, "nn": nn, "F": nn.functional, "Tensor": Tensor, "seed": seed}
