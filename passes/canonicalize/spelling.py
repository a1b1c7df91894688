"""A call in its one spelling."""

from __future__ import annotations

from typing import Any

from torch import fx

from vitgraph.ir.call_arguments import arguments, plain
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_schema import schema_of
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType

WHOLE_CALLS = frozenset(
    {
        aten.conv1d.default,
        aten.conv2d.default,
        aten.conv_transpose2d.input,
        aten.linear.default,
        aten.group_norm.default,
        aten.max_pool2d.default,
        aten.avg_pool2d.default,
        aten.slice.Tensor,
        aten.batch_norm.default,
    }
)
"""Operators that are written with every positional argument; the others without trailing ones at their defaults."""

SPELLED_BY_RULE = frozenset(
    {
        aten.layer_norm.default,
        aten.scaled_dot_product_attention.default,
        aten.pad.default,
        aten.linalg_vector_norm.default,
        aten.var.correction,
        aten.clamp.default,
    }
)
"""Operators whose rule sees to every argument."""

DIMENSIONS = frozenset({"dim", "dims", "dimension", "axis"})


def tidy(program: Program, node: fx.Node) -> fx.Node | None:
    """The same call in its one spelling: positional where the schema lets it, dimensions counted from the front."""
    target: Any = node.target
    schema = schema_of(target)
    if schema is None or target in SPELLED_BY_RULE:
        return None
    values = arguments(node)
    sizes = values.get("input_sizes", values.get("input_size"))  # backward forms: dimensions are of the result
    rank = _rank(node) if sizes is None else len(sizes)
    for name in DIMENSIONS & values.keys():
        values[name] = _from_front(values[name], rank)
    args, kwargs = list[Any](), dict[str, Any]()
    keep = 0
    for argument in schema.arguments:
        value = values[argument.name]
        given = not argument.has_default_value() or value != plain(argument.default_value)
        if argument.kwarg_only and given:
            kwargs[argument.name] = value
        if not argument.kwarg_only:
            args.append(value)
            keep = len(args) if given or target in WHOLE_CALLS else keep
    wanted = tuple(args[:keep])
    if _same(node.args, wanted) and _same(dict(node.kwargs), kwargs):
        return None
    return program.insert(node, target, *wanted, **kwargs)


def _rank(node: fx.Node) -> int:
    first: Any = node.args[0]
    first = first[0] if isinstance(first, list | tuple) else first  # pyright: ignore[reportUnknownVariableType]
    kind = first.meta["type"] if isinstance(first, fx.Node) else None
    return kind.rank if isinstance(kind, TensorType) else 0


def _from_front(dims: Any, rank: int) -> Any:
    if isinstance(dims, int):
        return dims % rank if rank else dims
    if isinstance(dims, list | tuple):
        return [_from_front(dim, rank) for dim in dims]  # pyright: ignore[reportUnknownVariableType]
    return dims


def _same(a: Any, b: Any) -> bool:
    """Equal, types of numbers included (`1` is not `1.0` in a text)."""
    return bool(a == b) and repr(a) == repr(b)
