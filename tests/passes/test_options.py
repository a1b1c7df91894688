"""Every option of every pass, given what is not in its domain, is refused before any pass has run; and so are images that lack."""

import ast
import inspect
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from tests.planted import MLP
from vitgraph.domains import Natural, Selectors
from vitgraph.errors import InputError
from vitgraph.images.calibration_data import UnopenedImages
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.instruments import Quiet
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.pass_manager.pipeline import Pipeline, parse_pipeline, show_value
from vitgraph.passes import ORDER, find_pass, pipeline
from vitgraph.targets.target import Target, get_target

NUMBERS = (math.nan, math.inf, -math.inf, -1, 0, 0.5, 1, 10**30, 1e300)
"""Of these, a domain of numbers refuses at least those that are none."""
WRONG_TYPES: dict[Any, tuple[Any, ...]] = {
    bool: ("perhaps", 7, [], None),
    int: ("many", 1.5, True, [], math.nan, math.inf, -math.inf),
    float: ("much", True, [], math.nan, math.inf, -math.inf),
    str: (7, True, [], None),
    tuple: ("fc1", 7, True, None, [1], [""], [["fc1"]]),
}
ANY_VALUE_OF_ITS_TYPE = {
    "bool": "there are two values and both mean something",
    "Selectors": "whether a selector matches anything, the model decides; an empty one is refused",
}
"""Options without any value that is of their type and still refused, by annotation, and why."""


@dataclass(frozen=True)
class Option:
    """One option of one pass."""

    kind: type[Pass]
    name: str
    hint: Any

    @property
    def parts(self) -> tuple[Any, ...]:
        """The alternatives of a union; else the one annotation."""
        union = get_origin(self.hint) not in (Annotated, Literal, tuple, None)
        return get_args(self.hint) if union else (self.hint,)

    def __str__(self) -> str:
        return f"{self.kind.name}-{self.name}"


def options() -> list[Option]:
    """Every option of every pass of vitgraph."""
    kinds = [find_pass(name) for name in ORDER]
    hints = {kind: get_type_hints(kind, include_extras=True) for kind in kinds}
    return [Option(kind, field.name, hints[kind][field.name]) for kind in kinds for field in fields(kind)]


def plain(part: Any) -> Any:
    """The type under an annotation: int, float, bool, str, tuple; None for a literal or none."""
    inner = get_args(part)[0] if get_origin(part) is Annotated else part
    return get_origin(inner) or inner


def allows(part: Any, value: Any) -> bool:
    """Whether a value is in one alternative, read off the annotation by this test's own rules."""
    if part is type(None):
        return value is None
    if get_origin(part) is Literal:
        return value in get_args(part)
    if plain(part) is bool:
        return isinstance(value, bool)
    if plain(part) not in (int, float) or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not math.isfinite(value) or (plain(part) is int and value != int(value)):
        return False
    rules = get_args(part)[1:]
    tests = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
    return all(
        test(value, getattr(rule, name))
        for rule in rules
        for name, test in tests.items()
        if getattr(rule, name, None) is not None
    )


def bad_values(option: Option) -> Iterator[Any]:
    """What the option must refuse."""
    kinds = {plain(part) for part in option.parts}
    wrong = [value for kind in kinds for value in WRONG_TYPES.get(kind, ())] + ["no such word", "", {}]
    numbers = NUMBERS if kinds & {int, float} else (7,)
    for value in (*wrong, *numbers):
        if not any(allows(part, value) for part in option.parts):
            yield value


class Spy(Quiet):
    """Notes every pass that is handed the program."""

    def __init__(self) -> None:
        self.ran = list[str]()

    def before(self, step: Pass, program: Program, context: Context) -> None:
        self.ran.append(step.name)


def refusal(steps: Pipeline, context: Context | None = None) -> str | None:
    """What the pipeline is refused with ahead of its first pass; None where a pass has run."""
    spy = Spy()
    try:
        steps.run(parse(MLP), context or Context(calibration=UnopenedImages()), [spy])
    except Exception as error:  # noqa: BLE001  whatever stops a pass that has started is no refusal ahead of it
        return str(error) if isinstance(error, InputError) and not spy.ran else None
    return None


@pytest.mark.parametrize("option", options(), ids=str)
def test_a_bad_value_is_refused_in_the_text_and_in_python_before_anything_runs(option: Option) -> None:
    values = list(bad_values(option))
    assert len(values) >= 3
    for value in values:
        if not isinstance(value, dict):  # which no text can say
            with pytest.raises(InputError, match=f"pass '{option.kind.name}'.*option '{option.name}'"):
                pipeline(f"canonicalize,{option.kind.name}{{{option.name}={show_value(value)}}}")
        made: Any = option.kind(**{option.name: value})
        said = refusal(Pipeline((find_pass("canonicalize")(), made)))
        assert said is not None, f"{option} took {value!r}"
        assert f"pass '{option.kind.name}' (2 of 2): option '{option.name}'" in said


def test_every_number_has_a_domain_and_what_has_none_is_listed_with_the_reason() -> None:
    bounded = {str(option) for option in options() if {plain(part) for part in option.parts} & {int, float}}
    for option in options():
        for part in option.parts:
            if plain(part) in (int, float):
                assert get_origin(part) is Annotated, f"{option}: a bare {part.__name__} takes anything; see domains.py"
    free = {o for o in options() if str(o) not in bounded and Literal not in {get_origin(part) for part in o.parts}}
    assert {"Selectors" if each.hint == Selectors else each.hint.__name__ for each in free} == set(
        ANY_VALUE_OF_ITS_TYPE
    )


@pytest.mark.parametrize("name", ORDER)
def test_every_option_has_its_line_of_explanation(name: str) -> None:
    kind = find_pass(name)
    (body,) = (node.body for node in ast.walk(ast.parse(inspect.getsource(kind))) if isinstance(node, ast.ClassDef))
    after = {ast.unparse(each.target): body[at + 1] for at, each in enumerate(body) if isinstance(each, ast.AnnAssign)}
    bare = [field.name for field in fields(kind) if not ast.unparse(after[field.name]).startswith(("'", '"'))]
    assert bare == []


@pytest.mark.parametrize("name", ORDER)
def test_the_defaults_are_in_their_domains(name: str) -> None:
    find_pass(name)().check(get_target("a100"), UnopenedImages())


RULES = {
    "n=4 m=4": "nm-mask{n=4 m=4}",
    "v over 1": "nm-mask{v=16}",
    "0 < n < m": "permute-channels{n=8 m=4}",
    "uniform=true": "block-prune{uniform=true power=1 score=magnitude}",
    "metric=energy asks": "block-prune{metric=energy score=magnitude}",
    "one scale or one a group": "quantize{per_tensor=true group=8}",
    "no kernel multiplies": "quantize{weight_format=fp8}",
    "counts equal steps": "quantize{weight_format=fp8 activation_format=fp8 method=entropy}",
}


@pytest.mark.parametrize("said", RULES)
def test_options_that_contradict_each_other_are_refused_before_anything_runs(said: str) -> None:
    assert said in (refusal(pipeline(f"canonicalize,{RULES[said]}")) or "")


LACKING = {
    "assign-precision{to=bf16}": "rtx-turing",
    "quantize{weight_format=fp8 activation_format=fp8}": "a100",
    "block-prune{metric=latency score=magnitude}": "vegeta",
}


@pytest.mark.parametrize("steps", LACKING)
def test_what_the_target_lacks_is_refused_before_anything_runs(steps: str) -> None:
    context = Context(get_target(LACKING[steps]), calibration=UnopenedImages())
    assert LACKING[steps] in (refusal(pipeline(f"canonicalize,{steps}"), context) or "")


class Untouchable(Context):
    """A context whose images nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        if name == "calibration":
            raise AssertionError("calibration was read")
        return super().__getattribute__(name)


def choices(kind: type[Pass]) -> Iterator[Pass]:
    """The pass as it comes, and with every word and switch of its options changed by itself, and by two."""
    hints = get_type_hints(kind)
    words = {f.name: (True, False) if hints[f.name] is bool else get_args(hints[f.name]) for f in fields(kind)}
    steps: dict[Pass, None] = {kind(): None}
    for _ in range(2):
        for step in list(steps):
            for name, values in words.items():
                for value in values:
                    if isinstance(value, str | bool):
                        made: Any = replace(step, **{name: value})
                        steps.setdefault(made)
    yield from (step for step in steps if _is_allowed(step))


def _is_allowed(step: Pass) -> bool:
    try:
        step.check(None, UnopenedImages())
    except InputError:
        return False
    return True


TWO_LAYERS = """
x: f32[N, 16] = input()
a: f32[32, 16] = weight("fc1.weight")
h: f32[N, 32] = aten.linear.default(x, a, None)  # blocks.0.fc1
g: f32[N, 32] = aten.gelu.default(h)  # blocks.0.act
c: f32[16, 32] = weight("fc2.weight")
y: f32[N, 16] = aten.linear.default(g, c, None)  # blocks.0.fc2
r: f32[N, 16] = aten.add.Tensor(x, y)
return_(r)
"""


def reads_images(step: Pass) -> bool:
    """Whether running the pass looks at the context's images."""
    program = parse(TWO_LAYERS)
    try:
        step.run(program, Untouchable(get_target("a100"), probe=(torch.zeros(2, 16),)))
    except AssertionError as error:
        return "calibration was read" in str(error)
    except InputError:
        pass
    return False


@pytest.mark.parametrize("name", ORDER)
def test_a_pass_declares_that_it_needs_images_and_is_refused_without(name: str) -> None:
    for step in choices(find_pass(name)):
        if not step.needs_images:
            assert not reads_images(step), f"{step} reads images and declares that it needs none"
            continue
        said = refusal(Pipeline((find_pass("canonicalize")(), step)), Context())
        assert said is not None, f"{step} ran without images"
        assert f"pass '{name}' (2 of 2): no calibration images; name some with --calibration-data" in said


def test_some_passes_need_images_and_some_do_not() -> None:
    needs = {name for name in ORDER if any(step.needs_images for step in choices(find_pass(name)))}
    assert len(needs) == 13
    assert "materialize" not in needs


@dataclass(frozen=True)
class Late(Pass):
    """A pass that checks its option where it runs, and looks at images that it declares not to need."""

    name: ClassVar[str] = "late"
    effect: ClassVar[Effect] = Effect.EXACT

    depth: int = 1
    width: Natural = 1

    def run(self, program: Program, context: Context) -> None:
        assert context.images is not None
        if self.depth < 1:
            raise InputError("late: depth is at least 1")


def test_a_pass_that_checks_where_it_runs_is_caught() -> None:
    steps = parse_pipeline("late{depth=-1}", lambda _: Late)
    assert refusal(steps, Context(calibration=UnopenedImages())) is None
    assert reads_images(Late())
    assert refusal(Pipeline((Late(width=-1),))) is not None


def test_a_pass_of_another_package_may_have_options_without_a_domain() -> None:
    Late(depth=-5).check(None, None)


def test_the_first_pass_that_is_refused_is_named_with_its_place() -> None:
    steps = pipeline("canonicalize,nm-mask{score=wanda},quantize")
    with pytest.raises(InputError, match=r"pass 'nm-mask' \(2 of 3\): no calibration images.*score=magnitude"):
        steps.check(None, None)


def test_a_target_is_asked_once_a_pass() -> None:
    asked = list[Target | None]()

    class Asking(Late):
        def check(self, target: Target | None, images: Any) -> None:
            asked.append(target)

    Pipeline((Asking(), Asking())).check(None, None)
    assert asked == [None, None]
