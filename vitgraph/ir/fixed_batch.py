"""A program for any batch as one for a single batch size: engines of one size are smaller and take less time to build."""

from __future__ import annotations

from typing import Any

from torch import fx

from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, IntType, TensorType


def fix_batch(program: Program, size: int) -> Program:
    """A copy that takes batches of `size`: sizes that the graph computed from the batch are numbers now."""
    fixed = program.copy()
    for node in fixed.inputs:
        kind: TensorType = node.meta["type"]
        node.meta["type"] = TensorType(kind.dtype, kind.at(size))
    for node in list(fixed.graph.nodes):
        size_type: Any = node.meta.get("type")
        if isinstance(size_type, IntType):
            _replace(node, size_type.value.at(size) if isinstance(size_type.value, Dim) else size_type.value)
    fixed.clean()
    return fixed


def _replace(node: fx.Node, value: int) -> None:
    """Let whoever reads the node read a number."""

    def read(other: fx.Node) -> Any:
        return value if other is node else other

    for user in list(node.users):
        user.args = fx.map_arg(user.args, read)
        user.kwargs = fx.map_arg(user.kwargs, read)
