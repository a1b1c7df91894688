"""What counts as a fault, and what as a refusal; a few modules by hand, and a slice of random ones."""

import pytest
from torch import Tensor, fx

from tests.fuzz import comparing
from tests.fuzz.comparing import judge
from tests.fuzz.generator import generate
from tests.fuzz.recipe import Input, Recipe, Step
from tests.fuzz.running import judge_quietly, try_graph
from tests.fuzz.verdict import Kind, Verdict, gist
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.passes import pipeline
from vitgraph.passes.canonicalize import canonicalize
from vitgraph.passes.canonicalize.rule import Rule


def recipe_of(*lines: str, shape: tuple[int, ...] = (2, 6), dynamic: bool = False) -> Recipe:
    """A module of these lines, each giving a value."""
    steps = tuple(Step((f"v{number}",), line) for number, line in enumerate(lines, start=1))
    return Recipe(Input(shape, dynamic=dynamic), (), steps, (f"v{len(lines)}",))


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_module_that_is_right_is_ok(dynamic: bool) -> None:
    assert judge(recipe_of("x * 2", "v1.softmax(-1)", "v2 @ v1.mT", dynamic=dynamic)) == Verdict(Kind.OK)


def test_what_the_dialect_lacks_is_refused_by_name() -> None:
    verdict = judge(recipe_of("torch.linalg.matrix_exp(x @ x.mT)"))
    assert verdict.kind is Kind.REFUSED
    assert "linalg_matrix_exp" in verdict.why


@pytest.mark.parametrize(
    "line", ["x.view(5, 5)", "torch.argmax(x.sin() / x.sin(), -1)", "(x / x + 1e-8) - 1", "(x * torch.nan).argsort(-1)"]
)
def test_a_module_that_does_not_run_or_is_ill_posed_proves_nothing(line: str) -> None:
    assert judge(recipe_of(line)).kind is Kind.INVALID


def absolute(program: Program, node: fx.Node) -> fx.Node:
    """A rule that takes a square for the absolute value."""
    return program.insert(node, aten.abs.default, *node.args)


def broken(program: Program, node: fx.Node) -> fx.Node:
    """A rule that raises."""
    raise ZeroDivisionError(f"{program.name}: {node}")


@pytest.mark.parametrize(("rule", "kind"), [(absolute, Kind.WRONG), (broken, Kind.CRASH)])
def test_other_numbers_are_wrong_and_exceptions_crashes(
    rule: Rule, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canonicalize, "RULES", {**canonicalize.RULES, aten.square.default: rule})
    verdict = judge(recipe_of("x.square()"))
    assert (verdict.kind, verdict.stage) == (kind, "canonicalize")


def read_another(text: str, tensors: dict[str, Tensor]) -> Program:
    """A reader that writes squares as powers."""
    return pipeline("canonicalize").run(parse(text, tensors))


def test_a_text_that_reads_back_as_another_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "parse", read_another)
    verdict = judge(recipe_of("x.square()"))
    assert (verdict.kind, verdict.why) == (Kind.ROUND_TRIP, "is another text")


def test_the_gist_of_a_reason_is_without_names_and_numbers() -> None:
    assert gist("pass 'canonicalize' (1 of 3): v12 is off by 0.3") == gist("pass 'legalize' (2 of 9): v3 is off by 17")
    assert gist("one thing") != gist("another")


QUICK, LONG = range(5000, 5025), range(6000, 6070)


def test_random_modules_are_right() -> None:
    assert _faults(QUICK) == {}


@pytest.mark.slow
def test_more_random_modules_are_right() -> None:
    assert _faults(LONG) == {}


def _faults(seeds: range) -> dict[int, str]:
    """`python -m tests.fuzz --graph SEED` shows a fault whole and cut down."""
    results = [try_graph(seed) for seed in seeds]
    assert sum(result.verdict.kind is Kind.OK for result in results) > len(seeds) / 2
    return {result.seed: str(result.verdict) for result in results if result.verdict.kind.is_fault}


def test_judging_leaves_nothing_on_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    judge_quietly(generate(5000))
    assert capfd.readouterr() == ("", "")
