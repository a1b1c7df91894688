"""Rules of `canonicalize` for tensors of one number, counted numbers, and parts that are filled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from vitgraph.errors import InputError
from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_schema import opname
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim
from vitgraph.passes.canonicalize.rule import Rule, constant, shape, size_argument, source, static_sizes

_FILLINGS: Mapping[str, float] = {"empty": 0, "zero": 0, "ones": 1}
"""The number by what an operator's name holds; the values of an empty tensor are nobody's business, and zero here."""


def fill(program: Program, node: fx.Node) -> fx.Node | None:
    """A constant where the shape is known, and one number spread over it where the batch decides."""
    values, kind, name = arguments(node), node.meta["type"], opname(node.target)
    filling: Any = values.get("fill_value", values.get("value"))
    filling = next((number for word, number in _FILLINGS.items() if word in name), filling)
    if isinstance(filling, fx.Node):
        return None
    sizes = static_sizes(kind.shape)
    if sizes is not None:
        return constant(program, node, name, torch.full(sizes, filling, dtype=kind.dtype))
    one = constant(program, node, name, torch.full([1] * kind.rank, filling, dtype=kind.dtype))
    return program.insert(node, aten.expand.default, one, [size_argument(program, node, size) for size in kind.shape])


def fill_with_tensor(program: Program, node: fx.Node) -> fx.Node | None:
    """One computed number over all of a tensor."""
    return program.insert(node, aten.copy.default, source(node), arguments(node)["value"])


def count(program: Program, node: fx.Node) -> fx.Node | None:
    """`arange` over the batch: a running sum of steps."""
    values, kind = arguments(node), node.meta["type"]
    start, step = values.get("start", 0), values.get("step", 1)
    if not isinstance(kind.shape[0], Dim) or isinstance(start, fx.Node) or isinstance(step, fx.Node):
        return None
    one = constant(program, node, "arange", torch.full([1], step, dtype=kind.dtype))
    steps = program.insert(node, aten.expand.default, one, [size_argument(program, node, kind.shape[0])])
    summed = program.insert(node, aten.cumsum.default, steps, 0)
    return program.insert(node, aten.add.Tensor, summed, start - step)


def triangle(program: Program, node: fx.Node) -> fx.Node | None:
    """`tril` and `triu`: zero, whatever was there, on the other side of a diagonal."""
    sizes = static_sizes(shape(node)[-2:])
    if sizes is None:
        return None
    keep = torch.ones(sizes, dtype=torch.bool)
    keep = getattr(keep, opname(node.target))(arguments(node)["diagonal"])
    outside = constant(program, node, "outside", ~keep)
    filling = False if node.meta["type"].dtype == torch.bool else 0
    return program.insert(node, aten.masked_fill.Scalar, source(node), outside, filling)


def diagonal(program: Program, node: fx.Node) -> fx.Node | None:
    """A diagonal is every `columns + 1`-th element of the matrix in a row, from its first one on."""
    values, first = arguments(node), source(node)
    rank = len(shape(first))
    dims: list[int] = [values[name] % rank for name in ("dim1", "dim2")]
    sizes = static_sizes([shape(first)[dim] for dim in dims])
    length = shape(node)[-1]
    if sizes is None or not isinstance(length, int):  # torch.export takes the other side's size for the length
        raise InputError(
            f"{program.name}: {path_of(node)} takes a diagonal along the batch ({node.target}), whose length hangs on both sides: "
            "it is not of the dialect; capture the model for one batch size, or take the diagonal of a matrix"
        )
    (_, columns), offset = sizes, values["offset"]
    moved = program.insert(node, aten.movedim.intlist, first, dims, [rank - 2, rank - 1])
    flat = program.insert(node, aten.flatten.using_ints, moved, -2, -1)
    start = offset if offset >= 0 else -offset * columns
    end = start + (length - 1) * (columns + 1) + 1 if length else start
    return program.insert(node, aten.slice.Tensor, flat, rank - 2, start, end, columns + 1)


def fill_rows(program: Program, node: fx.Node) -> fx.Node | None:
    """`index_fill`: the rows that the index names are masked and filled."""
    values, sizes = arguments(node), shape(node)
    dim: int = values["dim"] % len(sizes)
    size = sizes[dim]
    if not isinstance(size, int):
        return None
    rows = constant(program, node, "rows", torch.arange(size).unsqueeze(-1))
    index = program.insert(node, aten.remainder.Scalar, values["index"], size)
    named = program.insert(node, aten.any.dim, program.insert(node, aten.eq.Tensor, rows, index), 1)
    mask = program.insert(node, aten.reshape.default, named, [size] + [1] * (len(sizes) - 1 - dim))
    tensor = isinstance(values["value"], fx.Node)
    target = aten.masked_fill.Tensor if tensor else aten.masked_fill.Scalar
    return program.insert(node, target, source(node), mask, values["value"])


def one_hot(program: Program, node: fx.Node) -> fx.Node | None:
    """Which class each number is."""
    classes = shape(node)[-1]
    if not isinstance(classes, int):
        return None
    known = constant(program, node, "classes", torch.arange(classes))
    column = program.insert(node, aten.unsqueeze.default, source(node), len(shape(source(node))))
    return program.insert(node, aten.to.dtype, program.insert(node, aten.eq.Tensor, column, known), torch.int64)


FILLING: dict[Any, Rule] = {
    **dict.fromkeys(
        (
            aten.zeros.default,
            aten.ones.default,
            aten.full.default,
            aten.empty.memory_format,
            aten.zeros_like.default,
            aten.ones_like.default,
            aten.full_like.default,
            aten.empty_like.default,
            aten.new_zeros.default,
            aten.new_ones.default,
            aten.new_full.default,
            aten.new_empty.default,
            aten.fill.Scalar,
            aten.zero.default,
        ),
        fill,
    ),
    aten.fill.Tensor: fill_with_tensor,
    **dict.fromkeys((aten.arange.default, aten.arange.start, aten.arange.start_step), count),
    **dict.fromkeys((aten.tril.default, aten.triu.default), triangle),
    **dict.fromkeys((aten.diagonal.default, aten.diagonal_copy.default), diagonal),
    **dict.fromkeys((aten.index_fill.int_Scalar, aten.index_fill.int_Tensor), fill_rows),
    aten.one_hot.default: one_hot,
}
"""Rule by operator."""
