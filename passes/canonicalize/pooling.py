"""Rules of `canonicalize` for pooling and resizing: all of it on images `[N, C, H, W]`."""

from __future__ import annotations

from typing import Any

from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program
from vitgraph.passes.canonicalize.layers import in_pairs
from vitgraph.passes.canonicalize.rule import Rule, respell, shape, source, static_sizes


def single_image(rule: Rule) -> Rule:
    """An image `[C, H, W]` as a batch of one."""

    def batched(program: Program, node: fx.Node) -> fx.Node | None:
        if len(shape(source(node))) != 3:
            return rule(program, node)
        values = arguments(node)
        values["self"] = program.insert(node, aten.unsqueeze.default, source(node), 0)
        pooled = program.insert(node, node.target, *values.values())  # type: ignore[arg-type]
        return program.insert(node, aten.squeeze.dim, pooled, 0)

    return batched


def average_of_all(program: Program, node: fx.Node) -> fx.Node | None:
    """Pooling to one pixel is a mean; to the size it has already, nothing."""
    first, size = source(node), arguments(node)["output_size"]
    if shape(first) == shape(node):
        return first
    if list(size) != [1] * len(size):
        return in_pairs(program, node)
    rank = len(shape(first))
    return program.insert(node, aten.mean.dim, first, [rank - 2, rank - 1][-len(size) :], True)


_SIZES = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "output_size": 1}
"""What each argument of a pooling is along the height of 1."""


def along_a_line(target: Any) -> Rule:
    """A pooling of lines as the two-dimensional one on images of height 1."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        values = arguments(node)
        if "stride" in values:
            values["stride"] = values["stride"] or values["kernel_size"]
        image = program.insert(node, aten.unsqueeze.default, source(node), len(shape(source(node))) - 1)
        given = [
            [_SIZES[name], *value] if name in _SIZES else value for name, value in values.items() if name != "self"
        ]
        pooled = program.insert(node, target, image, *given)
        return program.insert(node, aten.squeeze.dim, pooled, len(shape(node)) - 1)

    return rule


def resized_line(target: Any) -> Rule:
    """A line resized as an image of height 1."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        values = arguments(node)
        values["input"] = program.insert(node, aten.unsqueeze.default, source(node), 2)
        for name in ("output_size", "scale_factors"):
            values[name] = None if values[name] is None else [1, *values[name]]
        resized = program.insert(node, target, *values.values())
        return program.insert(node, aten.squeeze.dim, resized, 2)

    return rule


def largest_of_cells(program: Program, node: fx.Node, whole: fx.Node) -> fx.Node | None:
    """The values of `adaptive_max_pool1d` or `2d`: the largest of each cell, of all rows first and then of all columns."""
    new, wanted = source(whole), arguments(whole)["output_size"]
    rank, count = len(shape(new)), len(wanted)
    dims = list(range(rank - count, rank))
    if list(wanted) == [1] * count:
        return program.insert(node, aten.amax.default, new, dims, True)
    if static_sizes(shape(new)[-count:]) is None:
        return None
    for dim, cells in zip(dims, wanted, strict=True):
        new = _largest_along(program, node, new, dim, cells)
    return new


def _largest_along(program: Program, node: fx.Node, value: fx.Node, dim: int, cells: int) -> fx.Node:
    """The largest of each cell along one dimension; torch's cells overlap where the size does not divide."""
    size = shape(value)[dim]
    assert isinstance(size, int)
    if size == cells:
        return value
    parts = [
        program.insert(node, aten.slice.Tensor, value, dim, cell * size // cells, -(-(cell + 1) * size // cells), 1)
        for cell in range(cells)
    ]
    largest = [program.insert(node, aten.amax.default, part, [dim], True) for part in parts]
    return program.insert(node, aten.cat.default, largest, dim)


POOLING: dict[Any, Rule] = {
    aten.adaptive_avg_pool2d.default: single_image(average_of_all),
    aten._adaptive_avg_pool2d.default: respell(aten.adaptive_avg_pool2d.default, "self", "output_size"),
    aten.adaptive_avg_pool1d.default: along_a_line(aten.adaptive_avg_pool2d.default),
    aten.avg_pool1d.default: along_a_line(aten.avg_pool2d.default),
    aten.upsample_linear1d.vec: resized_line(aten.upsample_bilinear2d.vec),
    aten.upsample_nearest1d.vec: resized_line(aten.upsample_nearest2d.vec),
    aten.max_pool1d.default: along_a_line(aten.max_pool2d.default),
    **dict.fromkeys((aten.max_pool2d.default, aten.avg_pool2d.default), single_image(in_pairs)),
}
"""Rule by operator."""
