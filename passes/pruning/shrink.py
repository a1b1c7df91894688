"""How hidden units and heads leave a graph: rows, columns and sizes go with them.

The moves between the linears (a reshape into heads, a slice into q, k and v) get smaller sizes. Which ones is not known by
pattern: the flags of what stays are run through the moves, and the one dimension along which they differ shrinks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.analysis.channel_flow import moved
from vitgraph.ir.call_arguments import argument, set_argument
from vitgraph.ir.calls import AttentionCall, LinearCall, MaskCall, ReshapeCall, RollCall, SelectCall, SliceCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.operator_classes import MOVES
from vitgraph.ir.program import Program
from vitgraph.passes import affine
from vitgraph.passes.pruning.prunable_units import NOBODY, PrunableUnits

SUFFIX = "narrow"
Edit = tuple[fx.Node, str, Any]
"""A node, the name of one of its arguments, and what that becomes."""


def plan_leaving(program: Program, units: PrunableUnits, stays: Tensor) -> list[Edit] | str:
    """New sizes for the moves around units of which only those that `stays`, `[count]`, flags are left; or why there are none."""
    steps = (*(node for branch in units.branches for node in branch.between), *units.downstream)
    reshapes = [node for node in steps if node.target is aten.reshape.default]
    try:
        edits: list[Edit] = [
            (node, "shape", _resized(ReshapeCall(node).sizes, -1, int(stays.sum()))) for node in reshapes
        ]
        if units.attention is not None:
            edits += _shrunk(program, units.attention, stays.view(1, -1, 1, 1))
        for linear, owners in units.writers.items():
            edits += _shrunk(program, linear, stays[owners] | (owners == NOBODY))
    except _Entangled as error:
        return str(error)
    return edits


class _Entangled(Exception):
    """What stays can't be told by one dimension."""


def _shrunk(program: Program, start: fx.Node, flags: Tensor) -> Iterator[Edit]:
    """The moves downstream of `start` that get other sizes where of its value only what `flags` flags stays."""
    whole = flags.expand(start.meta["type"].at(1)).double()
    queue = [(start, user) for user in start.users if user.target in MOVES]
    while queue:
        source, node = queue.pop()
        queue += [(node, user) for user in node.users if user.target in MOVES]
        before, after = (moved(program, start, whole, each) > 0 for each in (source, node))
        yield from _EDITS.get(node.target, _unchanged)(node, before, after)


def _line(flags: Tensor) -> tuple[int, Tensor] | None:
    """The dimension along which alone flags differ, and the flags along it; None where all are set."""
    if bool(flags.all()):
        return None
    for dim in range(flags.dim()):
        line = flags.movedim(dim, -1).flatten(0, -2).any(0) if flags.dim() > 1 else flags
        if torch.equal(line.expand(flags.movedim(dim, -1).shape), flags.movedim(dim, -1)):
            return dim, line
    raise _Entangled("units are spread over several dimensions")


def _reshaped(node: fx.Node, before: Tensor, after: Tensor) -> Iterator[Edit]:
    found = _line(after)
    if found is not None:
        name = "shape" if ReshapeCall.views(node) else "size"
        yield node, name, _resized(argument(node, name), found[0], int(found[1].sum()))


def _resized(sizes: Any, dim: int, size: int) -> list[Any]:
    """Sizes with one of them another; -1, what the others leave over, stays that."""
    new = list(sizes)
    if not isinstance(new[dim], int):
        raise _Entangled("a size is computed")
    new[dim] = -1 if new[dim] == -1 else size
    return new


def _sliced(node: fx.Node, before: Tensor, after: Tensor) -> Iterator[Edit]:
    found, part = _line(before), SliceCall(node)
    if found is None or part.dim % before.dim() != found[0]:
        return
    ends = {"start": part.start, "end": part.end}
    if part.step != 1 or not all(isinstance(end, int) for end in ends.values()):
        raise _Entangled("a slice leaves channels out in between")
    for name, end in ends.items():
        yield node, name, int(found[1][:end].sum())


def _cut_along(node: fx.Node, before: Tensor, after: Tensor) -> Iterator[Edit]:
    found, roll = _line(before), RollCall.of(node)
    dims = [SelectCall(node).dim] if roll is None else roll.dims
    if found is not None and found[0] in [dim % before.dim() for dim in dims]:
        raise _Entangled("units are taken one by one")
    yield from ()


def _unchanged(node: fx.Node, before: Tensor, after: Tensor) -> Iterator[Edit]:
    yield from ()


_EDITS: Mapping[Any, Callable[[fx.Node, Tensor, Tensor], Iterator[Edit]]] = {
    aten.reshape.default: _reshaped,
    aten.expand.default: _reshaped,
    aten.slice.Tensor: _sliced,
    aten.select.int: _cut_along,
    aten.roll.default: _cut_along,
}


def let_leave(program: Program, units: PrunableUnits, stays: Tensor, edits: Sequence[Edit]) -> None:
    """Take all units but those that `stays` flags out of weights, biases, masks and moves."""
    for node, name, value in edits:
        set_argument(node, name, value)
    for linear, owners in units.writers.items():
        rows = (stays[owners] | (owners == NOBODY)).nonzero()[:, 0]
        _narrow(program, linear, 0, rows)
        bias = affine.bias(program, linear)
        if bias is not None:
            affine.set_constant(program, linear, "bias", bias[rows], SUFFIX)
    _narrow(program, units.reader, 1, stays[units.columns].nonzero()[:, 0])
    added = None if units.attention is None else program.constant(AttentionCall(units.attention).bias)
    if units.attention is not None and added is not None and added.shape[-3:-2] == (units.count,):
        affine.set_constant(program, units.attention, "bias", added.detach()[..., stays, :, :], SUFFIX)


def _narrow(program: Program, linear: fx.Node, dim: int, stays: Tensor) -> None:
    """Only these rows (or columns) of a linear's weight and of its mask, which goes where it holds nothing back any more."""
    mask = MaskCall.of(LinearCall(linear).weight)
    if mask is None:
        values = program.tensor(str(weight_of(linear).target)).detach()
        affine.set_constant(program, linear, "weight", values.index_select(dim, stays), SUFFIX)
        return
    for name, node in (("weight", mask.weight), ("keep", mask.keep)):
        values = program.tensor(str(node.target)).detach()
        affine.set_constant(program, mask.node, name, values.index_select(dim, stays), SUFFIX)
    if bool(program.tensor(str(mask.keep.target)).all()):
        LinearCall(linear).weight = mask.weight
