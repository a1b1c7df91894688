"""A planted fault is found and cut down to the operators it needs; what is cut keeps its fault."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import fx

from tests.fuzz.generator import generate
from tests.fuzz.minimising import minimise
from tests.fuzz.recipe import Input, Recipe, Step
from tests.fuzz.reporting import as_test
from tests.fuzz.running import judge_quietly
from tests.fuzz.verdict import Kind, Verdict
from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program
from vitgraph.passes.canonicalize import canonicalize
from vitgraph.passes.canonicalize.arithmetic import ARITHMETIC

WITHIN = 200
"""In how many graphs a planted fault has to be found."""


def value_on_the_sum(program: Program, node: fx.Node) -> fx.Node:
    """`addcmul` as it once was: the factor on what the product is added to."""
    values = arguments(node)
    product = program.insert(node, aten.mul.Tensor, values["tensor1"], values["tensor2"])
    return program.insert(node, aten.add.Tensor, product, values["self"], alpha=values["value"])


def alpha_on_the_left(program: Program, node: fx.Node) -> fx.Node | None:
    """`add` with its factor on the wrong side."""
    values = arguments(node)
    if values["alpha"] == 1 or not isinstance(values["other"], fx.Node):
        return ARITHMETIC[aten.add.Tensor](program, node)
    scaled = program.insert(node, aten.mul.Tensor, values["self"], values["alpha"])
    return program.insert(node, aten.add.Tensor, scaled, values["other"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operator", "rule"), [(aten.addcmul.default, value_on_the_sum), (aten.add.Tensor, alpha_on_the_left)]
)
def test_a_planted_fault_is_found_and_cut_down(operator: Any, rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonicalize, "RULES", {**canonicalize.RULES, operator: rule})
    recipe, verdict = next(_wrong_at_canonicalize(iter(range(WITHIN))))
    smallest = minimise(recipe, verdict, judge_quietly)
    assert judge_quietly(smallest).is_like(verdict)
    assert len(smallest.steps) <= 3
    monkeypatch.undo()
    assert judge_quietly(smallest).kind is Kind.OK, "the fault found is the one planted"


def _wrong_at_canonicalize(seeds: Iterator[int]) -> Iterator[tuple[Recipe, Verdict]]:
    for seed in seeds:
        recipe = generate(seed)
        verdict = judge_quietly(recipe)
        if (verdict.kind, verdict.stage) == (Kind.WRONG, "canonicalize"):
            yield recipe, verdict


LONG = Recipe(
    Input((2, 6, 4), torch.float64, dynamic=True),
    (("w0", "nn.Parameter(torch.randn([4]))"), ("c1", "nn.Buffer(torch.ones(4))")),
    (
        Step(("v1",), "x.float() + self.w0"),
        Step(("v2", "v3"), "v1.chunk(2, 1)"),
        Step(("v4",), "v2.relu() * v3"),
        Step((), "v4.add_(1)"),
        Step(("v5",), "v4.sin()"),
        Step(("v6",), "v5 * self.c1"),
        Step(("v7",), "v6.sum(-1)"),
    ),
    ("v6", "v7", "v2"),
)


def test_is_cut_to_what_the_fault_needs() -> None:
    """The judge sees the fault wherever there is a sine, whatever else there is."""
    wrong = Verdict(Kind.WRONG, "here", "as told")

    def judge(recipe: Recipe) -> Verdict:
        recipe.build()(recipe.input.sample(1))  # what is handed to the judge runs
        return wrong if any(".sin()" in step.code for step in recipe.steps) else Verdict(Kind.OK)

    smallest = minimise(LONG, wrong, judge)
    assert [str(step) for step in smallest.steps] == ["v5 = x.sin()"]
    assert (smallest.weights, smallest.outputs) == ((), ("v5",))
    assert (smallest.input.dtype, smallest.input.dynamic) == (torch.float32, False)


def test_tries_no_more_than_it_may() -> None:
    tried = list[Recipe]()

    def judge(recipe: Recipe) -> Verdict:
        tried.append(recipe)
        return Verdict(Kind.OK)

    assert minimise(LONG, Verdict(Kind.WRONG), judge, most=5) is LONG
    assert len(tried) == 5


def test_is_printed_as_a_module_that_runs() -> None:
    text = as_test(LONG, Verdict(Kind.WRONG, "ort", 'is "off"'), 17)
    names: dict[str, Any] = {}
    exec(compile(text, "<test>", "exec"), names)  # noqa: S102  what we printed
    assert names["INPUT"] == LONG.input
    torch.testing.assert_close(names["Model"]()(names["INPUT"].sample(1)), LONG.build()(LONG.input.sample(1)))
    assert names["__doc__"].startswith("wrong · ort · is 'off' (graph 17)")
