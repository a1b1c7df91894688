"""Bring a captured graph to the dialect: one spelling for everything that can be said in several ways.

Before:
    dropout: f32[1, 16, 8] = aten.dropout.default(x, 0.1, False)
    view: f32[1, 4, 4, 8] = aten.view.default(dropout, [-1, 4, 4, 8])
    transpose: f32[1, 4, 4, 8] = aten.transpose.int(view, -2, -3)
    t: f32[8, 8] = aten.t.default(weight)
    matmul: f32[1, 4, 4, 8] = aten.matmul.default(transpose, t)

After:
    reshape: f32[1, 4, 4, 8] = aten.reshape.default(x, [1, 4, 4, 8])
    permute: f32[1, 4, 4, 8] = aten.permute.default(reshape, [0, 2, 1, 3])
    linear: f32[1, 4, 4, 8] = aten.linear.default(permute, weight, None)

Every pass after this one looks for the spellings that `vitgraph.ir.dialect.ATEN` lists. Operators that the dialect lacks
and that depend on weights and literals alone (`arange`, `meshgrid`, masks) are computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from vitgraph.errors import PassError
from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import ATEN, OWN, aten
from vitgraph.ir.operator_schema import opname
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.canonicalize.arithmetic import ARITHMETIC
from vitgraph.passes.canonicalize.layers import LAYERS
from vitgraph.passes.canonicalize.parts import PARTS
from vitgraph.passes.canonicalize.reductions import REDUCTIONS
from vitgraph.passes.canonicalize.rule import Rule
from vitgraph.passes.canonicalize.spelling import tidy
from vitgraph.passes.canonicalize.views import VIEWS
from vitgraph.passes.constants import Constants, replace_by_constant

RULES: Mapping[Any, Rule] = {**VIEWS, **PARTS, **LAYERS, **REDUCTIONS, **ARITHMETIC}


@dataclass(frozen=True)
class Canonicalize(Pass):
    """One spelling per operator, nothing that does nothing."""

    name: ClassVar[str] = "canonicalize"
    effect: ClassVar[Effect] = Effect.REORDERS

    def run(self, program: Program, context: Context) -> None:
        """Sweep the graph once, from its inputs on; what a rule inserts is itself brought to its spelling."""
        constants = Constants(program)
        budget = 100 * len(program.graph.nodes)
        node = next(iter(program.graph.nodes))
        while node.op != "output":
            last = node.prev
            new = _rewrite(program, node, constants) if node.op == "call_function" else None
            if new is None:
                node = node.next
                continue
            budget -= 1
            if budget < 0:
                raise PassError(f"canonicalize finds no end at {node.format_node()}: two rules undo each other")
            node.replace_all_uses_with(new)
            program.graph.erase_node(node)
            node = last.next
        program.form = "canonical"


def _rewrite(program: Program, node: fx.Node, constants: Constants) -> fx.Node | None:
    """What stands for `node` in canonical form, or None where it is in that form already."""
    if not node.users:
        return None
    known = _compute(program, node, constants) if node.target in _RATHER_COMPUTED else None
    if known is not None:
        return known
    rule = RULES.get(node.target)
    new = rule(program, node) if rule else None
    return new or tidy(program, node) or _compute(program, node, constants)


def _compute(program: Program, node: fx.Node, constants: Constants) -> fx.Node | None:
    """The value of an operator that the dialect lacks, where it is known now."""
    kind = node.meta["type"]
    if node.target in ATEN or node.target in OWN or not isinstance(kind, TensorType):
        return None
    value = _filled(node, kind) if node.target in _FILLED else None
    if value is None and constants.holds(node):
        value = constants.value(node)
    return replace_by_constant(program, node, value, opname(node.target)) if isinstance(value, Tensor) else None


_RATHER_COMPUTED = frozenset(
    {
        aten.slice_scatter.default,
        aten.select_scatter.default,
        aten.copy.default,
        aten.lt.Scalar,
        aten.le.Scalar,
        aten.gt.Scalar,
        aten.ge.Scalar,
    }
)
"""Operators whose spelling in the dialect is long: only what can't be computed here is spelled so."""

_FILLED: Mapping[Any, float | None] = {
    aten.new_zeros.default: 0,
    aten.zeros_like.default: 0,
    aten.new_ones.default: 1,
    aten.ones_like.default: 1,
    aten.new_full.default: None,
    aten.full_like.default: None,
}
"""Operators that look at the type of a tensor but not at its values; None where the filling is an argument."""


def _filled(node: fx.Node, kind: TensorType) -> Tensor | None:
    filling = _FILLED[node.target]
    if any(not isinstance(size, int) for size in kind.shape):
        return None
    return torch.full(kind.static, arguments(node)["fill_value"] if filling is None else filling, dtype=kind.dtype)
