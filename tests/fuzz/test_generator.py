"""The same seed gives the same module; every line of the tables gets somewhere; what is ill-posed is left out."""

import math
import random
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from tests.fuzz.draft import SAMPLE, Draft
from tests.fuzz.evaluation import Evaluation, Noise
from tests.fuzz.generator import extend, generate, step_of
from tests.fuzz.operators import FAMILIES
from tests.fuzz.quiet import quiet
from tests.fuzz.recipe import Input, Recipe, Step
from vitgraph.pass_manager.numerics import flatten_outputs

TRIES = 60
"""On how many drafts a line is tried before it counts as dead."""
BEGINNINGS = {
    "images": ((2, 4, 6, 4), ("x + 1", "x > 0.1")),
    "heads": ((2, 2, 4, 6), ("x + 1", "(x > 0).long()")),
    "tokens": ((2, 6, 4), ("x + 1", "x > 0.1", "(x > 0).int()")),
    "rows": ((4, 8), ("x * 2", "x.sum()", "(x > 0).long()")),
    "line": ((4,), ("x * 2", "x > 0.1")),
    "one": ((2, 1, 4), ("x * 2",)),
}


@pytest.fixture(autouse=True)
def without_warnings() -> Iterator[None]:
    with quiet():
        yield


def draft_of(beginning: str) -> Draft:
    """A draft with a few values of several types."""
    shape, lines = BEGINNINGS[beginning]
    draft = Draft(Input(shape))
    for line in lines:
        assert draft.attempt(step_of(line, draft), {})
    return draft


def test_the_same_seed_gives_the_same_module() -> None:
    assert [generate(seed).source() for seed in range(5)] == [generate(seed).source() for seed in range(5)]
    assert generate(0).source() != generate(1).source()


def test_memory_that_is_not_yet_written_has_no_say_in_the_noise() -> None:
    """Circular padding copies rows whose corners are written later."""
    rows, image = torch.full((4, 4), math.nan), torch.rand(4, 2)
    with Noise(1):
        rows[:, 1:3].copy_(image)
        rows[0].copy_(rows[3])
    assert torch.equal(rows[0, 1:3], image[3])


def test_the_source_computes_what_its_lines_compute() -> None:
    for seed in range(100, 120):
        recipe = generate(seed)
        x = recipe.input.sample(SAMPLE)
        with torch.no_grad():
            found = recipe.build()(x.clone())
        values = Evaluation.of(recipe, x.clone()).values
        for name, result in zip(recipe.outputs, flatten_outputs(found), strict=True):
            torch.testing.assert_close(result, values[name], rtol=0, atol=0, equal_nan=True)


def test_modules_are_of_every_kind() -> None:
    recipes = [generate(seed) for seed in range(60)]
    inputs = [recipe.input for recipe in recipes]
    assert {one.dynamic for one in inputs} == {True, False}
    assert len({one.dtype for one in inputs}) > 2
    lengths = Counter(len(recipe.steps) for recipe in recipes)
    assert sum(count for length, count in lengths.items() if length >= 5) > 30
    assert any(len(recipe.outputs) > 2 for recipe in recipes)
    assert any(step.writes for recipe in recipes for step in recipe.steps)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_line_is_dead(family: str) -> None:
    """A line that never fits anything would test nothing."""
    dead = [str(operator) for operator in dict.fromkeys(FAMILIES[family]) if not _gets_somewhere(operator)]
    assert dead == []


def _gets_somewhere(operator: object) -> bool:
    rng = random.Random(1)
    for attempt in range(TRIES):
        draft = draft_of(list(BEGINNINGS)[attempt % len(BEGINNINGS)])
        before = len(draft.steps)
        extend(draft, rng, operator)  # type: ignore[arg-type]
        if len(draft.steps) > before:
            return True
    return False


@pytest.mark.parametrize(
    "line",
    [
        "torch.argmax(x.sin() / x.sin(), -1)",  # ties, but for the rounding
        "(x.sin() * 1e6) % 1.0",  # rounding is all that is left
        "(x + 1e4) - 1e4",
        "1 / (x - x * 1.0000001)",
        "torch.floor(x.sin() / x.sin() * 3)",  # at a step
        "torch.rand(2)",  # no two runs alike
        "x * 1e5",  # too large
    ],
)
def test_ill_posed_lines_are_left_out(line: str) -> None:
    draft = Draft(Input((2, 6)))
    assert not draft.attempt(step_of(line, draft), {})


@pytest.mark.parametrize(
    "line", ["torch.argmax(x.sin(), -1)", "(x * 3) % 1.0", "torch.floor(x * 3)", "torch.relu(x) > 0"]
)
def test_well_posed_lines_stay(line: str) -> None:
    draft = Draft(Input((2, 6)))
    assert draft.attempt(step_of(line, draft), {})


def test_a_line_that_fails_leaves_nothing() -> None:
    draft = Draft(Input((2, 6)))
    assert draft.attempt(step_of("x + 1", draft), {})
    assert not draft.attempt(Step((), "v1.add_(float('nan'))"), {})
    torch.testing.assert_close(draft.tensors()["v1"], draft.tensors()["x"] + 1)


def test_what_no_output_needs_is_cut() -> None:
    steps = (Step(("v1",), "x + self.w0"), Step(("v2",), "x * self.w1"), Step(("v3",), "v2 * 2"))
    recipe = Recipe(
        Input((2,)), (("w0", "nn.Buffer(torch.ones(2))"), ("w1", "nn.Buffer(torch.ones(2))")), steps, ("v3",)
    )
    assert [str(step) for step in recipe.trimmed().steps] == ["v2 = x * self.w1", "v3 = v2 * 2"]
    assert [name for name, _ in recipe.trimmed().weights] == ["w1"]
