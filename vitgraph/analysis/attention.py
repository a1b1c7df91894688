"""Where a graph takes a softmax, under whatever spelling, and what kind each of its attentions is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from vitgraph.ir import dialect
from vitgraph.ir.program import Program

aten = torch.ops.aten

_ELEMENTWISE = frozenset(
    {
        aten.reshape.default, aten.permute.default, aten.slice.Tensor, aten.select.int, aten.expand.default,
        aten.to.dtype, aten.pad.default, aten.cat.default, aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor,
        aten.clamp.default, aten.reciprocal.default, dialect.fake_quantize, dialect.log2_quantize,
    }
)  # fmt: skip
"""What may stand between the two products of a linear attention."""

_ACTIVATIONS = frozenset(
    {aten.relu.default, aten.sigmoid.default, aten.gelu.default, aten.silu.default, aten.elu.default}
)


def find_softmaxes(program: Program) -> list[tuple[str, fx.Node]]:
    """Each softmax with its spelling: `attention`, `softmax`, `log-softmax`, `sdpa`, or `exp/sum` where it is hidden."""
    spellings: dict[Any, str] = {
        dialect.attention: "attention",
        aten.softmax.int: "softmax",
        aten.log_softmax.int: "log-softmax",
        aten.scaled_dot_product_attention.default: "sdpa",
    }
    found = list[tuple[str, fx.Node]]()
    for node in program.calls():
        if node.target in spellings:
            found.append((spellings[node.target], node))
        elif _is_hidden(node):
            found.append(("exp/sum", node))
    return found


def _is_hidden(node: fx.Node) -> bool:
    """exp(x) / sum(exp(x)), as a division or as a product with the reciprocal, or later in the same product."""
    if node.target not in (aten.div.Tensor, aten.mul.Tensor) or len(node.args) < 2:
        return False
    top, bottom = node.args[0], node.args[1]
    if not isinstance(top, fx.Node) or not isinstance(bottom, fx.Node):
        return False
    pairs = [(top, bottom)] if node.target is aten.div.Tensor else [(top, bottom), (bottom, top)]
    for numerator, denominator in pairs:
        sums = [n for n in _above(denominator) if n.target in (aten.sum.dim_IntList, aten.matmul.default)]
        summed = {e for s in sums for e in _above(s) if e.target is aten.exp.default}
        if node.target is aten.mul.Tensor and not any(n.target is aten.reciprocal.default for n in _above(denominator)):
            continue
        if summed & set(_above(numerator)):
            return True
    return False


def _above(node: fx.Node, limit: int = 40) -> Iterator[fx.Node]:
    """A value and what it is computed from, nearest first, upstream through sums, products and layout."""
    through = _ELEMENTWISE | {aten.sum.dim_IntList, aten.matmul.default, aten.reciprocal.default}
    queue, seen = [node], set[fx.Node]()
    while queue and len(seen) < limit:
        each = queue.pop(0)
        if each in seen or each.op != "call_function":
            continue
        seen.add(each)
        yield each
        if each.target in through:
            queue += each.all_input_nodes


def find_attentions(program: Program) -> list[tuple[str, fx.Node]]:
    """Each attention with its kind, and the node that takes its softmax (its last product where there is none).

    `softmax`: softmax(q kᵀ) v. `linear`: two products with nothing in between that mixes tokens non-linearly, such as
    q (kᵀ v). `other`: two products with an activation between them.
    """
    found = list[tuple[str, fx.Node]]()
    for node in program.calls():
        if node.target in (dialect.attention, aten.scaled_dot_product_attention.default):
            found.append(("softmax", node))
        elif node.target is aten.matmul.default:
            attention = _between_products(node)
            if attention is not None:
                found.append(attention)
    return found


def _between_products(node: fx.Node) -> tuple[str, fx.Node] | None:
    """What kind of attention this product ends; None if no other product feeds it."""
    seen, kind, at = set[fx.Node](), "linear", node
    queue = [arg for arg in node.args if isinstance(arg, fx.Node)]
    while queue:
        each = queue.pop()
        if each in seen or each.op != "call_function":
            continue
        seen.add(each)
        if each.target is aten.matmul.default:
            return kind, at
        if each.target is aten.softmax.int:
            kind, at = "softmax", each
        elif each.target in _ACTIVATIONS and kind == "linear":
            kind = "other"
        elif each.target not in _ELEMENTWISE and each.target not in _ACTIVATIONS:
            continue
        queue += each.all_input_nodes
    return None
