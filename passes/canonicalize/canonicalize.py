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

from torch import Tensor, fx

from vitgraph.errors import PassError
from vitgraph.ir.dialect import ATEN, OWN, aten
from vitgraph.ir.operator_schema import opname
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.canonicalize.arithmetic import ARITHMETIC
from vitgraph.passes.canonicalize.attention import ATTENTION
from vitgraph.passes.canonicalize.comparisons import COMPARISONS
from vitgraph.passes.canonicalize.contractions import CONTRACTIONS
from vitgraph.passes.canonicalize.filling import FILLING
from vitgraph.passes.canonicalize.functions import FUNCTIONS
from vitgraph.passes.canonicalize.layers import LAYERS
from vitgraph.passes.canonicalize.parts import PARTS
from vitgraph.passes.canonicalize.pooling import POOLING
from vitgraph.passes.canonicalize.reductions import REDUCTIONS
from vitgraph.passes.canonicalize.refusal import refuse_missing
from vitgraph.passes.canonicalize.rounding import ROUNDING
from vitgraph.passes.canonicalize.rule import Rule
from vitgraph.passes.canonicalize.spelling import tidy
from vitgraph.passes.canonicalize.views import VIEWS
from vitgraph.passes.constants import Constants, holds_nan, number, replace_by_constant

RULES: Mapping[Any, Rule] = {
    **VIEWS,
    **PARTS,
    **FILLING,
    **LAYERS,
    **CONTRACTIONS,
    **REDUCTIONS,
    **POOLING,
    **ARITHMETIC,
    **ATTENTION,  # a quotient may be a softmax
    **COMPARISONS,
    **ROUNDING,
    **FUNCTIONS,
}


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
        refuse_missing(program)
        program.form = "canonical"


def _rewrite(program: Program, node: fx.Node, constants: Constants) -> fx.Node | None:
    """What stands for `node` in canonical form, or None where it is in that form already."""
    if not node.users:
        return None
    early = node.target in _RATHER_COMPUTED or _is_arithmetic_of_numbers(program, node)
    known = _compute(program, node, constants) if early else None
    if known is not None:
        return known
    rule = RULES.get(node.target)
    new = rule(program, node) if rule else None
    return new or tidy(program, node) or _compute(program, node, constants)


def _is_arithmetic_of_numbers(program: Program, node: fx.Node) -> bool:
    """Are all operands constants of rank 0 that are not trained, and is the result one?"""
    kind, operands = node.meta["type"], node.all_input_nodes
    whole = isinstance(kind, TensorType) and kind.rank == 0 and operands != []
    return whole and all(number(program, each) is not None for each in operands)


def _compute(program: Program, node: fx.Node, constants: Constants) -> fx.Node | None:
    """The value of an operator where it is known now, and the dialect lacks the operator or all of it is numbers."""
    kept = node.target in ATEN or node.target in OWN
    if (kept and not _is_arithmetic_of_numbers(program, node)) or not constants.holds(node):
        return None
    value = constants.value(node)
    if not isinstance(value, Tensor) or holds_nan(value):
        return None
    return replace_by_constant(program, node, value, opname(node.target))


_RATHER_COMPUTED = frozenset(
    {
        aten.slice_scatter.default,
        aten.select_scatter.default,
        aten.copy.default,
        aten.lt.Scalar,
        aten.le.Scalar,
        aten.gt.Scalar,
        aten.ge.Scalar,
        *(operator for operator in {**FILLING, **ROUNDING, **FUNCTIONS} if operator not in ATEN),
    }
)
"""Operators whose spelling in the dialect is long: only what can't be computed here is spelled so."""
