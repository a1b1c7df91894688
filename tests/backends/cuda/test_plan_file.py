"""Plans as JSON: what is read is what was written, to the last bit, and what is no plan is refused."""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitgraph.backends.cuda.plan import Argument, Buffer, Plan, SiteChoice, Step, Value, Weight
from vitgraph.backends.cuda.plan_file import plan_from_json, plan_to_json
from vitgraph.backends.cuda.plan_text import show_plan
from vitgraph.errors import InputError
from vitgraph.ir.tensor_type import Dim, TensorType

HALF = TensorType(torch.float16, (Dim(1, 0), 37, 64))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=9)
    | st.builds(Dim, st.integers(1, 99), st.integers(-9, 9))
    | st.sampled_from([torch.float16, torch.int8, torch.bool])
    | st.sampled_from([Value("x"), Weight("w")])
)
ARGUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


def plan_of(arguments: dict[str, Argument]) -> Plan:
    """One step on one input."""
    buffers = {name: Buffer(name, HALF, padded) for name, padded in (("x", False), ("y", True))}
    steps = (Step("torch", ("y",), arguments, "blocks.0", "aten.relu.default"),)
    sites = (SiteChoice("blocks.0", "linear", "int8", "linear", ("bias", "gelu"), "why"),)
    return Plan("p", ("x",), ("y",), buffers, {"w": TensorType(torch.int8, (4, 8))}, steps, sites)


def same(one: Any, other: Any) -> bool:
    """Equal, with NaN equal to itself, and numbers of one type."""
    if isinstance(one, tuple):
        return isinstance(other, tuple) and len(one) == len(other) and all(map(same, one, other))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and bool(one == other)


@given(st.dictionaries(st.text(max_size=9), ARGUMENTS, max_size=4))
def test_round_trip(arguments: dict[str, Argument]) -> None:
    plan = plan_of(arguments)
    read = plan_from_json(json.loads(json.dumps(plan_to_json(plan), allow_nan=False)))
    assert same(tuple(read.steps[0].arguments.items()), tuple(arguments.items()))
    assert (read.buffers, read.weights, read.sites, read.inputs, read.outputs) == (
        plan.buffers,
        plan.weights,
        plan.sites,
        plan.inputs,
        plan.outputs,
    )
    assert show_plan(read) == show_plan(plan)


WRONG_PARTS: list[tuple[str, Any]] = [
    ("version", 0),
    ("steps", [{"kernel": "torch"}]),
    ("steps", 3),
    ("buffers", [{"name": "x", "type": "int[3]"}]),
    ("weights", {"w": "f99[2]"}),
    ("outputs", ["z"]),
    ("inputs", []),
    ("sites", [{}]),
]


@pytest.mark.parametrize(("part", "wrong"), WRONG_PARTS)
def test_what_is_no_plan_is_refused(part: str, wrong: object) -> None:
    given = plan_to_json(plan_of({"self": Value("x"), "other": Weight("w")}))
    assert plan_from_json(given)
    with pytest.raises(InputError, match="compile the model again"):
        plan_from_json(given | {part: wrong})


@pytest.mark.parametrize("given", [None, [], 3, "plan", {}, {"version": 1}])
def test_what_is_nothing_like_a_plan_is_refused(given: object) -> None:
    with pytest.raises(InputError, match="is no plan"):
        plan_from_json(given)
