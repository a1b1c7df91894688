"""Compute what depends on weights and literals only, once, here.

Before:
    index: f32[2401, 3] = aten.index.Tensor(table, [relative_position_index])
    reshape: f32[49, 49, 3] = aten.reshape.default(index, [49, 49, 3])
    permute: f32[3, 49, 49] = aten.permute.default(reshape, [2, 0, 1])
    add: f32[64, 3, 49, 49] = aten.add.Tensor(scores, permute)

After:
    folded: f32[3, 49, 49] = constant("layers.0.blocks.0.attn.folded")
    add: f32[64, 3, 49, 49] = aten.add.Tensor(scores, folded)

A weight that is only laid out anew stays a weight and can still be trained; anything else becomes a constant. Masks
and quantizers on weights are left alone: `materialize` folds them. So is what would grow the file for nothing, such
as a token expanded over a large batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from vitgraph.domains import Natural
from vitgraph.ir.call_arguments import name_of
from vitgraph.ir.dialect import aten, attention
from vitgraph.ir.operator_classes import RELAYS
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.constants import Constants, holds_nan, replace_by_constant


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Constants in place of the operators that compute them."""

    name: ClassVar[str] = "fold-constants"
    effect: ClassVar[Effect] = Effect.REORDERS

    max_growth: Natural = 4
    """How many times larger than all it is computed from a folded tensor may be."""
    always_below: Natural = 65536
    """A tensor of at most this many elements is folded whatever it grew from."""

    def run(self, program: Program, context: Context) -> None:
        """Fold the last constant on each way from the weights to the inputs."""
        constants = Constants(program)
        for node in program.calls():
            if self._folds(constants, node) and any(not self._folds(constants, user) for user in node.users):
                if not context.take(self.name, str(node.meta.get("path", ""))):
                    return
                _fold(program, node, constants)

    def _folds(self, constants: Constants, node: fx.Node) -> bool:
        kind = node.meta.get("type")
        if node.op != "call_function" or not isinstance(kind, TensorType) or not constants.holds(node):
            return False
        size = math.prod(kind.static)
        limit = max(self.always_below, self.max_growth * _size_of_sources(node))
        return size <= limit or _is_attention_bias(node)


def _fold(program: Program, node: fx.Node, constants: Constants) -> None:
    value: Tensor = constants.value(node)
    if holds_nan(value):
        return
    weight = _laid_out(program, node)
    if weight is None:
        new = replace_by_constant(program, node, value, "folded")
    else:
        new = program.constant_node(node, weight, value.contiguous(), trainable=True)
    node.replace_all_uses_with(new)
    program.graph.erase_node(node)


def _laid_out(program: Program, node: fx.Node) -> str | None:
    """The name of the trained weight of which this is but another layout."""
    while node.target in RELAYS:
        source: Any = node.args[0]
        node = source
    is_weight = isinstance(program.constant(node), torch.nn.Parameter)
    return str(node.target) if is_weight else None


def _size_of_sources(node: fx.Node) -> int:
    """Elements of all the weights that a constant is computed from."""
    weights, seen, left = 0, set[fx.Node](), [node]
    while left:
        each = left.pop()
        if each in seen:
            continue
        seen.add(each)
        left += each.all_input_nodes
        weights += math.prod(each.meta["type"].static) if each.op == "get_attr" else 0
    return weights


def _is_attention_bias(node: fx.Node) -> bool:
    """Is it added to scores ahead of a softmax, or handed to an attention?"""
    for user in node.users:
        if user.target in (attention, aten.scaled_dot_product_attention.default) and name_of(user, node) in (
            "bias",
            "attn_mask",
        ):
            return True
        if user.target is aten.add.Tensor and any(after.target is aten.softmax.int for after in user.users):
            return True
    return False
