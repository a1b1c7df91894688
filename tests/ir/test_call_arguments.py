"""Arguments by name, wherever a call has them."""

from __future__ import annotations

import operator
from typing import Any

import pytest
from torch import fx

from vitgraph.ir import dialect
from vitgraph.ir.call_arguments import argument, arguments, name_of, parameters, set_argument
from vitgraph.ir.dialect import aten
from vitgraph.ir.tensor_type import IntType


def call(target: Any, *args: Any, **kwargs: Any) -> fx.Node:
    graph = fx.Graph()
    known = {each: graph.placeholder(each) for each in args if isinstance(each, str)}
    return graph.call_function(target, tuple(known[each] if isinstance(each, str) else each for each in args), kwargs)


def test_positions_keywords_and_defaults() -> None:
    for node in (call(aten.cat.default, ["p"], 2), call(aten.cat.default, tensors=["p"], dim=2)):
        assert arguments(node) == {"tensors": ["p"], "dim": 2}
    assert argument(call(aten.cat.default, ["p"]), "dim") == 0
    assert argument(call(aten.gelu.default, "x", approximate="tanh"), "approximate") == "tanh"


def test_operators_of_python_have_names_too() -> None:
    node = call(operator.getitem, "x", 1)
    assert arguments(node) == {"a": node.args[0], "b": 1}
    assert list(parameters(getattr(operator, "floordiv"))) == ["a", "b"]  # noqa: B009  as pyright does not know its type


def test_lists_are_lists_and_known_sizes_numbers() -> None:
    graph = fx.Graph()
    size = graph.placeholder("n")
    size.meta["type"] = IntType(5)
    node = graph.call_function(aten.reshape.default, (size, [size, -1]))
    assert argument(node, "shape") == [5, -1]
    assert type(argument(node, "shape")) is list


def test_a_name_that_is_not_there() -> None:
    node = call(aten.relu.default, "x")
    with pytest.raises(TypeError, match="has no argument 'weight'"):
        argument(node, "weight")
    with pytest.raises(TypeError, match="has no argument 'weight'"):
        set_argument(node, "weight", 1)


def test_which_argument_a_value_is() -> None:
    node = call(dialect.attention, "q", "k", "v", None, 0.5)
    assert [name_of(node, each) for each in node.all_input_nodes] == ["q", "k", "v"]
    assert name_of(node, node) is None


def test_writing_fills_in_what_stands_ahead() -> None:
    node = call(aten.slice.Tensor, "x", dim=1)
    set_argument(node, "end", 7)
    assert node.args[1:] == (1, None, 7)
    assert dict(node.kwargs) == {}
    set_argument(node, "start", 3)
    assert node.args[1:] == (1, 3, 7)


def test_writing_a_keyword() -> None:
    node = call(aten.gelu.default, "x")
    set_argument(node, "approximate", "tanh")
    assert dict(node.kwargs) == {"approximate": "tanh"}
    node = call(aten.cat.default, ["p"], dim=1)
    set_argument(node, "dim", 2)
    assert arguments(node) == {"tensors": ["p"], "dim": 2}
