"""What the rules of `canonicalize` are made of: a rule gives the node that stands for another, or None where it does not apply."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
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


def constant(program: Program, node: fx.Node, stem: str, tensor: torch.Tensor) -> fx.Node:
    """A constant ahead of `node`, named `stem` under its module's path."""
    path = node.meta.get("path")
    return program.constant_node(node, f"{path}.{stem}" if path else stem, tensor)


def as_tensor(program: Program, node: fx.Node, value: Any, dtype: torch.dtype, stem: str = "number") -> fx.Node:
    """A value as a tensor of this type: a number, rounded to it as torch does, becomes a constant of rank 0."""
    if not isinstance(value, fx.Node):
        return constant(program, node, stem, torch.tensor(value).to(dtype))
    return cast(program, node, value, dtype)


def cast(program: Program, node: fx.Node, value: fx.Node, dtype: torch.dtype) -> fx.Node:
    """A tensor in this type; itself where it has it."""
    return value if value.meta["type"].dtype == dtype else program.insert(node, aten.to.dtype, value, dtype)


def inner_type(dtype: torch.dtype) -> torch.dtype:
    """What a kernel of torch computes in: half types in FP32, so that what is between does not overflow."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def cast_source(program: Program, node: fx.Node) -> fx.Node:
    """The first argument in the type of the result: what an operator converts before it computes."""
    return cast(program, node, source(node), node.meta["type"].dtype)


def batch_of(program: Program) -> tuple[fx.Node, int]:
    """The first input whose size is the batch, and the dimension that it is."""
    return next(
        (each, position)
        for each in program.inputs
        for position, size in enumerate(shape(each))
        if isinstance(size, Dim)
    )


def size_argument(program: Program, node: fx.Node, size: Size) -> Any:
    """A size as an argument ahead of `node`: a number, or the node that computes it from the batch."""
    if not isinstance(size, Dim):
        return size
    found = program.insert(node, aten.sym_size.int, *batch_of(program))
    if size.times != 1:
        found = program.insert(node, operator.mul, found, size.times)
    return found if size.plus == 0 else program.insert(node, operator.add, found, size.plus)


def static_sizes(sizes: Sequence[Size]) -> list[int] | None:
    """Sizes that are all known; None where one depends on the batch."""
    known = [size for size in sizes if isinstance(size, int)]
    return known if len(known) == len(sizes) else None


def literal_shape(sizes: Sequence[Size]) -> list[int]:
    """Sizes as a reshape has them: -1 for the one that depends on the batch."""
    return [-1 if isinstance(size, Dim) else size for size in sizes]
