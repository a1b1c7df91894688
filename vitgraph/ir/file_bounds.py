"""What a graph from a file may ask for: sizes, memory, numbers of results; checked before anything is typed or allocated."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import fx

from vitgraph.ir.file_operators import NUMBERS
from vitgraph.ir.operator_schema import opname, schema_of
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, IntType, Size, TensorType, TupleType, Type

MAX_LINES = 20_000
"""Lines of a text; Swin-L has some 5,000."""
MAX_ELEMENTS = 2**30
"""Elements of one value at a batch of one: 4 GiB in float32."""
MAX_RANK = 16
MAX_RESULTS = 1_024
"""Results of one operator, such as `unbind`."""
MAX_BYTES = 32 * 2**30
"""Bytes of the values that a graph holds at once, at a batch of one, and of the weights that a text has drawn."""


def check_type(kind: Type) -> None:
    """`ValueError` for a type of negative sizes, of too many dimensions, or of more elements than a value may have."""
    if isinstance(kind, TupleType):
        if len(kind.items) > MAX_RESULTS:
            raise ValueError(f"{len(kind.items):,} results are over the {MAX_RESULTS:,} that an operator may have")
        for item in kind.items:
            check_type(item)
    sizes = (kind.value,) if isinstance(kind, IntType) else kind.shape if isinstance(kind, TensorType) else ()
    if any(abs(number) >= 2**63 for size in sizes for number in _numbers(size)):
        raise ValueError("a size is no whole number of 64 bits")
    if isinstance(kind, TensorType):
        _check_tensor(kind)


def _numbers(size: Size) -> tuple[int, ...]:
    return (size.times, size.plus) if isinstance(size, Dim) else (size,)


def _check_tensor(kind: TensorType) -> None:
    if any(size < 0 for size in kind.at(1)):
        raise ValueError("a size is negative")
    if kind.rank > MAX_RANK:
        raise ValueError(f"{kind.rank} dimensions are over the {MAX_RANK} that a value may have")
    if math.prod(kind.at(1)) > MAX_ELEMENTS:
        raise ValueError(f"{math.prod(kind.at(1)):,} elements are over the {MAX_ELEMENTS:,} that a value may have")


def bytes_of(kind: Type) -> int:
    """Bytes at a batch of one."""
    if isinstance(kind, TupleType):
        return sum(map(bytes_of, kind.items))
    return math.prod(kind.at(1)) * kind.dtype.itemsize if isinstance(kind, TensorType) else 0


def check_call(target: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """`ValueError` where a call's arguments are not those of its operator, or it would have results without number."""
    if target is operator.getitem:
        _check_getitem(args, kwargs)
    elif target in NUMBERS.values():
        _check_arithmetic(args, kwargs)
    elif _pieces(opname(target), _bind(target, args, kwargs)) > MAX_RESULTS:
        raise ValueError(f"{opname(target)} would have over {MAX_RESULTS:,} results")


def _check_getitem(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    kind = args[0].meta["type"] if args and isinstance(args[0], fx.Node) else None
    if kwargs or len(args) != 2 or not isinstance(kind, TupleType) or type(args[1]) is not int:
        raise ValueError("getitem takes a value of several results and the number of one of them")
    if not -len(kind.items) <= args[1] < len(kind.items):
        raise ValueError(f"getitem takes result {args[1]} of {len(kind.items)}")


def _check_arithmetic(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    whole = (
        isinstance(each.meta["type"], IntType) if isinstance(each, fx.Node) else type(each) is int for each in args
    )
    if kwargs or len(args) != 2 or not all(whole):
        raise ValueError("a function of `operator` takes two whole numbers")


def _bind(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name, as the operator's schema has them."""
    declared = schema_of(target).arguments
    places = [each.name for each in declared if not each.kwarg_only]
    if len(args) > len(places):
        raise ValueError(f"{target} takes {len(places)} arguments without a name, not {len(args)}")
    bound = dict(zip(places, args, strict=False))
    for name, value in kwargs.items():
        if name in bound or all(name != each.name for each in declared):
            raise ValueError(f"{target} takes no argument {name}{' a second time' if name in bound else ''}")
        bound[name] = value
    missing = [each.name for each in declared if each.name not in bound and not each.has_default_value()]
    if missing:
        raise ValueError(f"{target} lacks its argument {', '.join(missing)}")
    return bound


def _pieces(name: str, bound: Mapping[str, Any]) -> int:
    """Into how many results a value is split at most."""
    value = bound.get("self")
    kind = value.meta["type"] if isinstance(value, fx.Node) else None
    if name not in _SPLITS or not isinstance(kind, TensorType):
        return 0
    size = bound.get("split_size", bound.get("chunks", bound.get("sections", bound.get("indices_or_sections", 1))))
    dim = bound.get("dim", 0)
    if isinstance(size, list | tuple):
        return len(size) + 1  # pyright: ignore[reportUnknownArgumentType]
    shape = kind.at(_LARGEST_SAMPLE)
    if type(size) is not int or type(dim) is not int or not -len(shape) <= dim < len(shape):
        return 0  # the operator itself has something to say
    return abs(size) if name in ("chunk", "unsafe_chunk", "tensor_split") else shape[dim] // max(size, 1)


_SPLITS = frozenset(
    {"split", "unsafe_split", "chunk", "unsafe_chunk", "tensor_split", "unbind", "hsplit", "vsplit", "split_with_sizes",
     "unsafe_split_with_sizes"}
)  # fmt: skip
_LARGEST_SAMPLE = 11
"""The largest batch that types are looked at with."""


def check_memory(program: Program) -> None:
    """`ValueError` where the values that are held at once take more than `MAX_BYTES`, weights included."""
    last = {other: node for node in program.graph.nodes for other in node.all_input_nodes}
    held = most = 0
    for node in program.graph.nodes:
        held += bytes_of(node.meta["type"]) if "type" in node.meta else 0
        most = max(most, held)
        held -= sum(bytes_of(other.meta["type"]) for other in node.all_input_nodes if last[other] is node)
    if most > MAX_BYTES:
        raise ValueError(
            f"its values take {most / 2**30:,.0f} GiB at once, over the {MAX_BYTES >> 30} GiB that they may"
        )
