"""Follow channels through operators that only move values: which output of a linear stands where in an attention.

A linear's channels are cut into q, k and v, split into heads, windowed and permuted before an attention reads them, in
a way that is each model's own. Instead of knowing the ways, the operators in between are run on the channels' numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir.calls import SizeCall
from vitgraph.ir.operator_classes import MOVES
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType


def before_moves(node: fx.Node) -> fx.Node:
    """What a value was before it was only moved about."""
    while node.target in MOVES:
        node = node.args[0]  # type: ignore[assignment]
    return node


def consumers_after_moves(node: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
    """The consumers of a value, downstream of moves: pairs of a reader and the (moved) value it reads."""
    found, queue = list[tuple[fx.Node, fx.Node]](), [node]
    while queue:
        value = queue.pop()
        for user in value.users:
            if user.target in MOVES and user.args[0] is value:
                queue.append(user)
            else:
                found.append((user, value))
    return found


def channels_at(program: Program, source: fx.Node, end: fx.Node) -> Tensor:
    """Which channel (index in the last dimension) of `source` stands at each place of `end`, in `end`'s shape.

    Only moves may lie between. An unknown batch counts as one.
    """
    numbers = torch.arange(source.meta["type"].shape[-1], dtype=torch.float64)
    return moved(program, source, numbers.expand(source.meta["type"].at(1)), end).long()


def moved(program: Program, source: fx.Node, values: Tensor, end: fx.Node) -> Tensor:
    """`values`, which have the shape of `source` at batch 1, moved to `end`."""
    known: dict[fx.Node, Any] = {source: values}

    def value(node: fx.Node) -> Any:
        if node not in known:
            known[node] = _evaluate(program, node, value)
        return known[node]

    return value(end)  # type: ignore[no-any-return]


def _evaluate(program: Program, node: fx.Node, value: Any) -> Any:
    if node.op == "get_attr":
        return program.tensor(str(node.target))
    size = SizeCall.of(node)
    if size is not None:
        kind: TensorType = size.data.meta["type"]
        return kind.at(1)[size.dim]
    args, kwargs = fx.map_arg((node.args, node.kwargs), value)
    return node.target(*args, **kwargs)  # type: ignore[operator]
