"""Pipelines: text and YAML forms read back, messages point at the fault, and what running one promises."""

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planted import MLP
from vitgraph.errors import InputError, PassError
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.pass_manager.pipeline import (
    Pipeline,
    build_pass,
    options_of,
    parse_pipeline,
    read_yaml,
    timed_ledger,
)
from vitgraph.passes import ORDER, find_pass, pipeline

WORDS = st.text(max_size=12) | st.sampled_from(
    ["true", "none", "1", "1e3", "inf", "nan", "a b", "a,b", '"', "\\", "[x]", "ü=ß", "", "k>=64"]
)
"""What may stand in a text option, everything that means something in a pipeline's text among it."""


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a declared option type."""
    if get_origin(hint) is Annotated:
        return _within(*get_args(hint))
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        return st.lists(values_of(get_args(hint)[0]), max_size=4).map(tuple)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        str: WORDS,
    }
    if hint in simple:
        return simple[hint]
    return st.one_of(*(st.none() if part is type(None) else values_of(part) for part in get_args(hint)))


def _within(kind: type[Any], *marks: Any) -> st.SearchStrategy[Any]:
    """Any value of a domain of `vitgraph.domains`."""
    signs = [(name, getattr(mark, name, None)) for mark in marks for name in ("gt", "ge", "lt", "le")]
    bound = {name: value for name, value in signs if value is not None}
    least, most = bound.get("ge", bound.get("gt")), bound.get("le", bound.get("lt"))
    if kind is str:
        return WORDS.filter(bool)
    if kind is int:
        return st.integers(least, 10**20 if most is None else most - ("lt" in bound))
    return st.floats(least, most, exclude_min="gt" in bound, exclude_max="lt" in bound, allow_infinity=False)


def passes_of(name: str) -> st.SearchStrategy[Pass]:
    """A pass with any values of its options."""
    kind = find_pass(name)
    hints = get_type_hints(kind, include_extras=True)
    options = {field.name: values_of(hints[field.name]) for field in fields(kind)}
    return st.fixed_dictionaries({}, optional=options).map(lambda chosen: kind(**chosen))


def pipelines() -> st.SearchStrategy[Pipeline]:
    """Any of vitgraph's passes, in any order, any number of times."""
    each = st.one_of(*(passes_of(name) for name in ORDER))
    return st.lists(each, min_size=1, max_size=6).map(lambda chosen: Pipeline(tuple(chosen)))


@settings(max_examples=150, deadline=None)
@given(pipelines())
def test_text_reads_back_to_the_same_pipeline(steps: Pipeline) -> None:
    again = pipeline(str(steps))
    assert again == steps
    assert str(again) == str(steps)


@settings(max_examples=100, deadline=None)
@given(pipelines())
def test_yaml_reads_back_to_the_same_pipeline(steps: Pipeline) -> None:
    assert read_yaml(yaml.safe_load(yaml.safe_dump(steps.to_yaml())), find_pass) == steps  # pyright: ignore[reportUnknownMemberType]


def test_only_what_differs_from_the_default_is_printed() -> None:
    assert str(pipeline("nm-mask{n=2 m=4 only=[]}")) == "nm-mask"
    assert (
        str(pipeline(" nm-mask { only = [ qkv , fc1 ] n=1 } , canonicalize "))
        == "nm-mask{n=1 only=[qkv,fc1]},canonicalize"
    )


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("", 0, "name of a pass"),
        (",canonicalize", 0, "name of a pass"),
        ("canonicalize canonicalize", 13, "','"),
        ("nm-mask{n 2}", 10, "'='"),
        ("nm-mask{n=}", 10, "a value"),
        ("nm-mask{n=1 n=2}", 14, "given twice"),
        ("nm-mask{only=[a b]}", 16, "','"),
        ("nm-mask{n=1", 11, "an option or '}'"),
        ('nm-mask{only=["a]}', 14, "can't be read"),
    ],
)
def test_a_malformed_text_is_pointed_at(text: str, column: int, said: str) -> None:
    with pytest.raises(InputError) as caught:
        pipeline(text)
    message = str(caught.value)
    assert said in message
    shown, caret = message.splitlines()[1:3]
    assert shown == f"  {text}"
    assert caret == "  " + " " * column + "^"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nm-masks", "did you mean nm-mask"),
        ("zzz", "`vitgraph passes`"),
        ("nm-mask{onyl=[a]}", "did you mean only"),
        ("canonicalize{n=1}", "it takes none"),
        ("nm-mask{n=2.5}", "'n'"),
        ("quantize{method=psychic}", "psychic"),
    ],
)
def test_what_is_unknown_is_told_with_near_misses(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        pipeline(text)


@pytest.mark.parametrize(
    "steps", ["canonicalize", {"a": 1}, [["canonicalize"]], [{"a": {}, "b": {}}], [{"nm-mask": 3}], [7]]
)
def test_yaml_of_another_shape_is_refused(steps: Any) -> None:
    with pytest.raises(InputError, match="pipeline"):
        read_yaml(steps, find_pass)


@dataclass(frozen=True)
class Toy(Pass):
    """Doubles what the activation gives, or fails as it is told."""

    name: ClassVar[str] = "toy"
    effect: ClassVar[Effect] = Effect.LOSSY

    mode: str = "double"

    def run(self, program: Program, context: Context) -> None:
        if self.mode == "crash":
            raise IndexError("planted")
        linear = program.calls(torch.ops.aten.linear.default)[1]
        if self.mode == "misfit":
            linear.update_arg(0, program.inputs[0])
        elif self.mode == "refuse":
            context.refuse("fc2", "it does not want to")
        elif context.take(self.name, "fc2"):
            linear.update_arg(0, program.insert(linear, torch.ops.aten.mul.Tensor, linear.args[0], 2.0))


def toys(*modes: str) -> Pipeline:
    return Pipeline(tuple(Toy(mode) for mode in modes))


def test_runs_on_a_copy_and_keeps_a_ledger() -> None:
    program = parse(MLP)
    before = show(program)
    result = toys("double", "refuse").run(program)
    assert show(program) == before
    assert program.ledger == []
    double, refuse = result.ledger
    assert (double["name"], double["changed"], double["nodes"]) == ("toy", True, [4, 5])
    assert (refuse["changed"], refuse["refused"]) == (False, [{"site": "fc2", "why": "it does not want to"}])
    assert refuse["options"] == {"mode": "refuse"}


def test_fuel_ends_the_pipeline() -> None:
    spent = [("toy", ""), ("toy", "fc2"), ("toy", ""), ("toy", "fc2")]
    for fuel in range(5):
        context = Context(fuel=fuel)
        result = toys("double", "double").run(parse(MLP), context)
        assert context.spent == spent[:fuel]
        assert len(result.calls(torch.ops.aten.mul.Tensor)) == fuel // 2


def test_a_crash_names_the_pass() -> None:
    with pytest.raises(PassError, match=r"pass 'toy' \(2 of 2\) failed: IndexError: planted"):
        toys("double", "crash").run(parse(MLP))


def test_a_graph_that_does_not_fit_is_shown_even_without_instruments() -> None:
    with pytest.raises(PassError) as caught:
        toys("misfit").run(parse(MLP))
    assert "pass 'toy' (1 of 1)" in str(caught.value)
    assert "#   ^ " in str(caught.value), "the violation stands under its line"


def test_lookup_is_the_callers() -> None:
    assert parse_pipeline("toy{mode=refuse}", lambda name: Toy) == toys("refuse")
    assert options_of(build_pass("toy", {}, lambda name: Toy)) == {}


def test_times_are_told_beside_the_ledger_which_has_none() -> None:
    context = Context()
    first = pipeline("canonicalize").run(parse(MLP))
    done = pipeline("nm-mask,materialize").run(first, context)
    assert not [key for entry in done.ledger for key in entry if "second" in key]
    timed = timed_ledger(done.ledger, context.durations)
    assert [entry["name"] for entry in timed] == ["canonicalize", "nm-mask", "materialize"]
    assert timed[0]["seconds"] is None, "it had run before"
    assert all(entry["seconds"] >= 0 for entry in timed[1:])
    assert [{**entry, "seconds": 0} for entry in timed] == [{**entry, "seconds": 0} for entry in done.ledger]
