"""Arguments of a call by the names of its schema, read and written: the one place that knows at which position each stands.

The typed views (`vitgraph.ir.calls`), canonicalization and the lowering to ONNX build on it. Python's own operators, such as
`getitem` and the arithmetic on sizes, have no schema: theirs are named as in their signatures, `a` and `b`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import fx

from vitgraph.ir.operator_schema import schema_of
from vitgraph.ir.tensor_type import IntType


@dataclass(frozen=True)
class Parameter:
    """Where an argument stands, and what it is where it is not given."""

    position: int | None
    """None for one that is written as a keyword only."""
    default: Any = None


@cache
def parameters(target: Any) -> Mapping[str, Parameter]:
    """The parameters of an operator by name, in the order of its schema; none for what does not tell them."""
    schema = schema_of(target)
    if schema is None:
        return {name: Parameter(position) for position, name in enumerate(_signature(target))}
    return {
        each.name: Parameter(None if each.kwarg_only else position, each.default_value)
        for position, each in enumerate(schema.arguments)
    }


def _signature(target: Any) -> list[str]:
    try:
        return list(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        return []


def argument(node: fx.Node, name: str) -> Any:
    """One argument of a call, its default where it is not given; `TypeError` where the operator has none of this name.

    A list is a list, and a size that is known after all is that number.
    """
    return plain(_given(node, name, _parameter(node, name)))


def arguments(node: fx.Node) -> dict[str, Any]:
    """Every argument of a call by name, as `argument` gives it."""
    return {name: plain(_given(node, name, each)) for name, each in parameters(node.target).items()}


def name_of(node: fx.Node, value: Any) -> str | None:
    """The name of the first argument of a call that is this value; None where none is."""
    return next((name for name, each in parameters(node.target).items() if _given(node, name, each) is value), None)


def set_argument(node: fx.Node, name: str, value: Any) -> None:
    """Let a call read `value` as its argument `name`, at its position where the schema has one.

    Arguments that stand ahead of it and were not given are written out; `TypeError` where the operator has none of this name.
    """
    position = _parameter(node, name).position
    if position is None or name in node.kwargs:
        node.update_kwarg(name, value)
        return
    if position >= len(node.args):
        ahead = list(parameters(node.target).items())[len(node.args) : position]
        node.args = (*node.args, *(_given(node, other, each) for other, each in ahead), value)
        node.kwargs = {key: given for key, given in node.kwargs.items() if key not in dict(ahead)}
        return
    node.update_arg(position, value)


def _parameter(node: fx.Node, name: str) -> Parameter:
    found = parameters(node.target).get(name)
    if found is None:
        raise TypeError(f"{node.name}: {node.target} has no argument {name!r}")
    return found


def _given(node: fx.Node, name: str, parameter: Parameter) -> Any:
    if parameter.position is not None and parameter.position < len(node.args):
        return node.args[parameter.position]
    return node.kwargs.get(name, parameter.default)


def plain(value: Any) -> Any:
    """Lists as lists, and a size known after all as that number."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, fx.Node) and isinstance(value.meta.get("type"), IntType):
        size = value.meta["type"].value
        return size if isinstance(size, int) else value
    return value
