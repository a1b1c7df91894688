"""A seed in, a random module out; the same seed gives the same module."""

from __future__ import annotations

import ast
import random
import re

import torch

from tests.fuzz.draft import Draft
from tests.fuzz.operators import FAMILIES, Operator
from tests.fuzz.recipe import Input, Recipe, Step
from tests.fuzz.slots import FITTING, VALUES
from tests.fuzz.writer import NoFit, Writer, fill

SHAPES = (
    (2, 4, 6, 4),
    (2, 5, 8),
    (2, 6, 4),
    (2, 3, 4, 4),
    (2, 8),
    (3, 1, 4),
    (2, 2, 4, 6),
    (4,),
    (1, 5, 8),
    (1, 2, 6, 8),
)
"""Shapes of the input: images, tokens, heads, rows, a line, a batch of one."""
DTYPES = (torch.float32,) * 16 + (torch.float16, torch.bfloat16, torch.float64, torch.int64)
PLACES = re.compile(r"^((?:_, )*_,?) = ")
"""`_, _ = ` in front of an operator that gives several values."""


def generate(seed: int) -> Recipe:
    """A module of 4 to 14 operators (of which some may turn out unused)."""
    rng = random.Random(seed)
    draft = Draft(_input(rng), finite=rng.random() < 0.9)
    wanted = rng.randint(4, 14)
    families = _families(rng)
    for _ in range(4 * wanted):
        if len(draft.steps) == wanted:
            break
        extend(draft, rng, rng.choice(FAMILIES[rng.choice(families)]))
    return draft.recipe(_outputs(draft, rng)).trimmed()


def _families(rng: random.Random) -> list[str]:
    """Several families, all as often; one graph in thirty may hold what the dialect lacks."""
    known = [name for name in FAMILIES if name != "outside"]
    families = rng.sample(known, rng.randint(4, len(known)))
    return [*families, "outside"] if rng.random() < 1 / 30 else families


def _input(rng: random.Random) -> Input:
    shape = rng.choice(SHAPES)
    return Input(shape, rng.choice(DTYPES), dynamic=shape[0] == 2 and rng.random() < 0.35)


def extend(draft: Draft, rng: random.Random, operator: Operator) -> None:
    """Try one operator; the draft is as it was where nothing fits it."""
    writer = Writer(draft, rng)
    try:
        code = fill(operator, writer, VALUES, FITTING) if isinstance(operator, str) else operator(writer)
    except NoFit:
        return
    draft.attempt(step_of(code, draft), writer.weights)


def step_of(code: str, draft: Draft) -> Step:
    """A line with names for what it gives; none where it is a statement."""
    places = PLACES.match(code)
    first = 1 + sum(len(step.gives) for step in draft.steps)
    count = places[1].count("_") if places else 1
    names = tuple(f"v{first + number}" for number in range(count))
    if places:
        return Step(names, code[places.end() :])
    is_statement = not isinstance(ast.parse(code).body[0], ast.Expr)
    return Step(() if is_statement else names, code)


def _outputs(draft: Draft, rng: random.Random) -> tuple[str, ...]:
    """The last value, and up to three others that nothing reads."""
    read = {name for step in draft.steps for name in step.reads}
    names = [name for name in draft.tensors() if name != "x"] or ["x"]
    leaves = [name for name in names[:-1] if name not in read]
    return (*rng.sample(leaves, min(len(leaves), rng.randint(0, 3))), names[-1])
