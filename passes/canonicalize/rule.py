"""What the rules of `canonicalize` are made of: a rule gives the node that stands for another, or None where it does not apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_schema import schema_of
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, Size, TensorType

Rule = Callable[[Program, fx.Node], fx.Node | None]


WHOLE = 9223372036854775807
"""`end` of a slice that goes on to the end."""


def shape(node: Any) -> tuple[Size, ...]:
    """The shape of a tensor node."""
    kind = node.meta["type"]
    assert isinstance(kind, TensorType)
    return kind.shape


def source(node: fx.Node) -> fx.Node:
    """The first argument, which is a node."""
    first = node.args[0]
    assert isinstance(first, fx.Node)
    return first


def respell(target: Any, *names: str, **fixed: Any) -> Rule:
    """A rule that calls `target` with these arguments of the old call, in this order."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        values = arguments(node)
        return program.insert(node, target, *[values[name] for name in names], **fixed)

    return rule


def call_by_name(program: Program, node: fx.Node, target: Any, values: dict[str, Any]) -> fx.Node:
    """A call of `target` with arguments by name, keyword-only ones as keywords."""
    only = {argument.name for argument in schema_of(target).arguments if argument.kwarg_only}
    args = [values[a.name] for a in schema_of(target).arguments if not a.kwarg_only]
    return program.insert(node, target, *args, **{name: values[name] for name in sorted(only)})


def shape_nodes(program: Program, node: fx.Node, like: fx.Node) -> list[Any]:
    """The sizes of `like`: literals, and `sym_size` where the batch decides."""
    return [
        program.insert(node, aten.sym_size.int, like, dim) if isinstance(size, Dim) else size
        for dim, size in enumerate(shape(like))
    ]
