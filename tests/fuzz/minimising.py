"""A find cut down: the smallest recipe found that still has the same fault.

Four cuts, over and over while one succeeds: one output instead of all; an operator left out, its result replaced by another value
or by a constant of its shape; a value made the input, with all before it gone; a fixed batch and FP32 for a dynamic batch and other types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from tests.fuzz.draft import SAMPLE
from tests.fuzz.evaluation import Evaluation
from tests.fuzz.recipe import Input, Recipe, Step
from tests.fuzz.verdict import Verdict

Judge = Callable[[Recipe], Verdict]


def minimise(recipe: Recipe, verdict: Verdict, judge: Judge, most: int = 80) -> Recipe:
    """The smallest recipe found in at most so many tries whose verdict is like this one."""
    tried = {(recipe.input, recipe.source())}
    while True:
        for smaller in _smaller(recipe):
            if (smaller.input, smaller.source()) in tried:
                continue
            if len(tried) > most:
                return recipe
            tried.add((smaller.input, smaller.source()))
            if judge(smaller).is_like(verdict):
                recipe = smaller
                break
        else:
            return recipe


def _smaller(recipe: Recipe) -> Iterator[Recipe]:
    """Recipes with something left out, those that leave out most first."""
    try:
        values = Evaluation.of(recipe, recipe.input.sample(SAMPLE)).values
    except Exception:  # noqa: BLE001  a cut that no longer runs: nothing smaller is worth a try
        return
    for name in recipe.outputs if len(recipe.outputs) > 1 else ():
        yield replace(recipe, outputs=(name,)).trimmed()
    for position in reversed(range(len(recipe.steps))):
        yield from _from_here(recipe, position, values)
    for position in range(len(recipe.steps)):
        yield from _without(recipe, position, values)
    yield from _ending_earlier(recipe)
    if recipe.input.dynamic:
        yield replace(recipe, input=replace(recipe.input, dynamic=False))
    if recipe.input.dtype != torch.float32:
        yield replace(recipe, input=replace(recipe.input, dtype=torch.float32))


def _ending_earlier(recipe: Recipe) -> Iterator[Recipe]:
    """What an operator gives as the output."""
    for step in recipe.steps[:-1]:
        if step.gives:
            yield replace(recipe, outputs=(step.gives[0],)).trimmed()


def _from_here(recipe: Recipe, position: int, values: dict[str, Tensor]) -> Iterator[Recipe]:
    """What this operator gives is the input; what else is needed of the old input becomes constants."""
    step = recipe.steps[position]
    if len(step.gives) != 1 or position == len(recipe.steps) - 1:
        return
    name = step.gives[0]
    value = values[name]
    if value.dim() == 0:
        return
    dynamic = recipe.input.dynamic and value.shape[0] == recipe.input.shape[0]
    new = Input(tuple(value.shape), value.dtype, dynamic)
    later = recipe.steps[position + 1 :]
    gone = {"x", *(given for each in recipe.steps[: position + 1] for given in each.gives)} - {name}
    needed = sorted(gone & {read for each in (*later, _returning(recipe)) for read in each.reads})
    result = replace(recipe, input=new, steps=later)
    for other in needed:
        result = _constant(result, other, values[other])
    yield _renamed(result, name, "x").trimmed()


def _without(recipe: Recipe, position: int, values: dict[str, Tensor]) -> Iterator[Recipe]:
    """Without this operator: another value of its shape stands for its result, or a constant."""
    step = recipe.steps[position]
    rest = replace(recipe, steps=(*recipe.steps[:position], *recipe.steps[position + 1 :]))
    if not step.gives:
        yield rest.trimmed()
        return
    earlier = ["x", *(name for each in recipe.steps[:position] for name in each.gives)]
    if len(step.gives) == 1:
        result = values[step.gives[0]]
        for other in (*(name for name in earlier if name in step.reads), *earlier):
            if values[other].shape == result.shape and values[other].dtype == result.dtype:
                yield _renamed(rest, step.gives[0], other).trimmed()
                break
    for name in step.gives:
        rest = _constant(rest, name, values[name])
    yield rest.trimmed()


def _constant(recipe: Recipe, name: str, value: Tensor) -> Recipe:
    """A buffer of random numbers in the place of a value."""
    shape, dtype = list(value.shape), value.dtype
    if dtype == torch.bool:
        made = f"torch.rand({shape}) > 0.5"
    elif dtype.is_floating_point:
        made = f"torch.randn({shape}{'' if dtype == torch.float32 else f', dtype={dtype}'})"
    else:
        made = f"torch.randint(0, 2, {shape}{'' if dtype == torch.int64 else f', dtype={dtype}'})"
    buffer = f"c{10_000 + int(name[1:] or 0)}"
    with_buffer = replace(recipe, weights=(*recipe.weights, (buffer, f"nn.Buffer({made})")))
    return _renamed(with_buffer, name, f"self.{buffer}")


def _returning(recipe: Recipe) -> Step:
    return Step((), ", ".join(recipe.outputs))


def _renamed(recipe: Recipe, old: str, new: str) -> Recipe:
    """Another value wherever one is read, the outputs included."""
    steps = tuple(step.renamed(old, new) for step in recipe.steps)
    return replace(recipe, steps=steps, outputs=tuple(new if name == old else name for name in recipe.outputs))
