"""A recipe in the making: lines are tried on several inputs at once, and stay only where they are well-posed on all."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.fuzz.evaluation import Evaluation, steady
from tests.fuzz.recipe import Input, Recipe, Step

LARGEST = 1e4
"""No value may be larger: what overflows FP16 elsewhere is not the subject here."""
MOST_ELEMENTS = 4096
SAMPLE = 1
"""The seed of the input on which values are looked at, and later compared."""
OTHER_BATCHES = (1, 3)
"""The batch sizes that a module with a dynamic batch is tried with, besides its own."""


@dataclass
class Draft:
    """What there is so far; `finite` says whether infinities and NaN are left out."""

    input: Input
    finite: bool = True
    weights: dict[str, str] = field(default_factory=dict[str, str])
    steps: list[Step] = field(default_factory=list[Step])

    def __post_init__(self) -> None:
        self._evaluate()

    def _evaluate(self) -> None:
        """Run everything anew: the sample without and with noise, and the other batch sizes."""
        recipe = self.recipe(())
        sample = self.input.sample(SAMPLE)
        self.exact = Evaluation.of(recipe, sample.clone())
        self.noisy = Evaluation.of(recipe, sample.clone(), noise=1)
        batches = OTHER_BATCHES if self.input.dynamic else ()
        self.others = [Evaluation.of(recipe, self.input.sample(SAMPLE, batch)) for batch in batches]

    def recipe(self, outputs: tuple[str, ...]) -> Recipe:
        """What there is so far, with these outputs."""
        return Recipe(self.input, tuple(self.weights.items()), tuple(self.steps), outputs)

    @property
    def all(self) -> list[Evaluation]:
        """Every evaluation."""
        return [self.exact, self.noisy, *self.others]

    def tensors(self) -> dict[str, Tensor]:
        """Every value by name, on the sample."""
        return self.exact.values

    def is_open(self, name: str, dim: int) -> bool:
        """Does this size depend on the batch?"""
        size = self.tensors()[name].shape[dim]
        return any(each.values[name].shape[dim] != size for each in self.others)

    def attempt(self, step: Step, weights: dict[str, str]) -> bool:
        """Keep a line and the weights made for it, if all is well with it."""
        try:
            for each in self.all:
                for name, code in weights.items():
                    each.add_weight(name, code)
                each.run(step)
            kept = all(self._good(name) for name in (self.tensors() if step.writes else step.gives))
        except Exception:  # noqa: BLE001  torch has many ways to say that operands don't fit; then the line is not taken
            kept = False
        if kept:
            self.weights |= weights
            self.steps.append(step)
        elif step.writes:
            self._evaluate()
        else:
            self._forget(step)
        return kept

    def _forget(self, step: Step) -> None:
        for each in self.all:
            for name in step.gives:
                each.values.pop(name, None)

    def _good(self, name: str) -> bool:
        exact, noisy = self.exact.values[name], self.noisy.values[name]
        if not isinstance(exact, Tensor) or not 0 < exact.numel() <= MOST_ELEMENTS or exact.is_complex():
            return False
        if any(each.values[name].dim() != exact.dim() or not each.values[name].numel() for each in self.others):
            return False
        return self._fits(exact) and steady(exact, noisy, self.noisy.rounding)

    def _fits(self, value: Tensor) -> bool:
        if not value.dtype.is_floating_point:
            return value.dtype == torch.bool or bool((value.long().abs() < 2**31).all())
        finite = bool(value.isfinite().all())
        return (finite or not self.finite) and bool((value.nan_to_num(0.0, 0.0, 0.0).abs() <= LARGEST).all())
