"""What goes into `vitgraph.attention`, in the shape that kernels take: `[B, H, T, D]`, every query's head with keys of its own.

TensorRT makes one kernel of that. Of the same products it makes none where all heads read the same k and v (multi-query
attention), or where q, k and v of three dimensions come from a convolution's map (measured with TensorRT-RTX 1.7).
"""

from __future__ import annotations

import operator
from typing import Any

from torch import fx

from vitgraph.ir.calls import BinaryCall, PermuteCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import SCALES
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, Size


def absorb_factors(q: Any, k: Any, v: Any, bias: Any, scale: float) -> tuple[Any, ...]:
    """Take plain factors of q and k into the scale."""
    q, scale = without_factor(q, scale)
    k, scale = without_factor(k, scale)
    return q, k, v, bias, float(scale)


def without_factor(operand: fx.Node, scale: float) -> tuple[Any, float]:
    """What a number multiplies, maybe ahead of views and permutes that nothing else reads, and the scale with it in."""
    factor = _moved(operand)
    call = BinaryCall(factor) if factor.target in SCALES and len(factor.users) < 2 else None
    if call is None or not isinstance(call.right, int | float):
        return operand, scale
    scale = scale / call.right if call.divides else scale * call.right
    if factor is operand:
        return call.left, scale
    factor.replace_all_uses_with(call.left)
    return operand, scale


def _moved(node: fx.Node) -> fx.Node:
    """What a value was before views and permutes that this reader alone sees."""
    while node.target in (aten.reshape.default, aten.permute.default) and len(node.users) < 2:
        node = node.all_input_nodes[0]
    return node


def swap_last(program: Program, node: fx.Node, before: fx.Node) -> fx.Node:
    """The value with its last two dimensions swapped; two permutes in a row are one, and none where they undo each other."""
    rank = node.meta["type"].rank
    order = [*range(rank - 2), rank - 1, rank - 2]
    call = PermuteCall.of(node)
    source = node if call is None else call.data
    if call is not None:
        order = [call.dims[position] for position in order]
    return source if order == list(range(rank)) else program.insert(before, aten.permute.default, source, order)


def own_heads(program: Program, q: fx.Node, other: fx.Node, before: fx.Node) -> fx.Node:
    """k or v, given anew to each of q's heads where they share it."""
    ahead, shape = q.meta["type"].shape[:-2], other.meta["type"].shape
    shared = len(shape) == len(ahead) + 2 and all(
        size in (1, wanted) for size, wanted in zip(shape, ahead, strict=False)
    )
    if not shared or shape[:-2] == ahead:
        return other
    sizes = [sized(program, size, before) for size in (*ahead, *shape[-2:])]
    return program.insert(before, aten.expand.default, other, sizes)


def is_stack(operand: fx.Node) -> bool:
    """Is it `[M, T, D]`, of whose sizes at most one hangs on the batch, as a reshape can say?"""
    kind = operand.meta["type"]
    return kind.rank == 3 and sum(isinstance(size, Dim) for size in kind.shape) < 2


def stacked(program: Program, operand: fx.Node, before: fx.Node) -> fx.Node:
    """`[M, T, D]` as `[1, M, T, D]`: matrices of one image are what heads are. Rows and columns are swapped after that."""
    call = PermuteCall.of(operand)
    swapped = call is not None and [dim % 3 for dim in call.dims] == [0, 2, 1]
    source = call.data if call is not None and swapped else operand
    sizes = [-1 if isinstance(size, Dim) else size for size in source.meta["type"].shape]
    stack = program.insert(before, aten.reshape.default, source, [1, *sizes])
    return program.insert(before, aten.permute.default, stack, [0, 1, 3, 2]) if swapped else stack


def unstacked(program: Program, result: fx.Node, before: fx.Node) -> fx.Node:
    """`[1, M, T, D]` as `[M, T, D]`."""
    sizes = result.meta["type"].shape[1:]
    return program.insert(before, aten.reshape.default, result, [-1 if isinstance(s, Dim) else s for s in sizes])


def sized(program: Program, size: Size, before: fx.Node) -> Any:
    """A size as an argument: a number, or a node that computes it from the batch."""
    if not isinstance(size, Dim):
        return size
    batch = program.insert(before, aten.sym_size.int, program.inputs[0], 0)
    return program.insert(before, operator.mul, batch, size.times) if size.times != 1 else batch
