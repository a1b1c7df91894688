"""Multiply an attention without softmax in the order that costs less: (Q Kᵀ) V or Q (Kᵀ V).

Before:
    scores: f32[1, 4, 196, 196] = aten.matmul.default(q, kt)
    y: f32[1, 4, 196, 17] = aten.matmul.default(scores, v)

After:
    matmul: f32[1, 4, 16, 17] = aten.matmul.default(kt, v)
    matmul_1: f32[1, 4, 196, 17] = aten.matmul.default(q, matmul)

With no softmax in between, an attention is a product of three matrices, and such a product may start at either end
(Katharopoulos et al., "Transformers are RNNs", ICML 2020, eq. 6). For n queries, m keys and head dimensions d and e,
the left order takes n m (d + e) multiply-accumulates, the right one d e (n + m): linear in the tokens, and still the
dearer one where tokens are few. A normalizer computed along, as a column of ones beside V, is one more column of V.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import fx

from vitgraph.analysis.attention import find_attentions
from vitgraph.ir.calls import BinaryCall, operands_of
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import SCALES
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Size
from vitgraph.pass_manager.findings import OrderFinding
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass

Order = Literal["left", "right"]


@dataclass(frozen=True)
class ReassociateLinearAttention(Pass):
    """Each attention without softmax starts at the end where it costs less."""

    name: ClassVar[str] = "reassociate-linear-attention"
    effect: ClassVar[Effect] = Effect.REORDERS

    order: Literal["cheaper", "left", "right"] = "cheaper"
    """`cheaper` in multiply-accumulates, or for every attention `left`, (A B) C as written, or `right`, A (B C)."""

    def run(self, program: Program, context: Context) -> None:
        """Turn what may be turned and costs less turned; say what each order costs, or why it was left alone."""
        for site in find_attentions(program):
            if site.kind == "softmax":
                continue
            node, path = site.node, site.path
            chain = _read(node) if site.kind == "linear" else "an activation stands between its two products"
            costs = chain if isinstance(chain, str) else chain.costs()
            if isinstance(chain, str) or isinstance(costs, str):
                context.refuse(path, str(costs))
                continue
            wanted = self.order if self.order != "cheaper" else _cheaper(costs, chain.order)
            context.findings.append(OrderFinding(path, wanted, costs["left"], costs["right"]))
            if wanted != chain.order and context.take(self.name, path):
                _turn(program, node, chain)


@dataclass(frozen=True)
class _Chain:
    """The product A B C as it is computed now."""

    factors: tuple[fx.Node, fx.Node, fx.Node]
    order: Order
    scales: tuple[fx.Node, ...]
    """What the first product is multiplied or divided by on its way into the second, in order."""

    def costs(self) -> dict[Order, int] | str:
        """Multiply-accumulates of one head in either order, or why they can't be told."""
        a, b, c = (_shape(factor) for factor in self.factors)
        if not a[:-2] == b[:-2] == c[:-2]:
            return "its three factors are not of one batch and as many heads"
        n, d, m, e = *a[-2:], *c[-2:]
        if not (isinstance(n, int) and isinstance(d, int) and isinstance(m, int) and isinstance(e, int)):
            return "its tokens depend on the batch size, and so does what it costs"
        return {"left": n * m * (d + e), "right": d * e * (n + m)}


def _read(second: fx.Node) -> _Chain | str:
    """The chain that a product ends, or why it is none whose order is free."""
    left, right = map(_first_product, operands_of(second))
    if left is not None and right is not None:
        return "both its factors are products"
    found = left or right
    if found is None:
        return "more than a scale stands between its two products"
    if any(len(node.users) > 1 for node in found):
        return "its first product is used elsewhere too"
    first, *scales = found
    (a, b), outer = operands_of(first), operands_of(second)
    other = outer[1] if left else outer[0]
    if any(len(_shape(factor)) < 2 for factor in (a, b, other)):
        return "one of its factors is a vector"
    if left:
        return _Chain((a, b, other), "left", tuple(scales))
    return _Chain((other, a, b), "right", tuple(scales))


def _first_product(value: Any) -> list[fx.Node] | None:
    """The product that gives a value, then the scales on the way from it; None where something else stands there."""
    scales = list[fx.Node]()
    while _is_scale(value):
        scales.insert(0, value)
        value = BinaryCall(value).left
    return [value, *scales] if value.target is aten.matmul.default else None


def _is_scale(node: fx.Node) -> bool:
    """A product with, or a quotient by, one number: it may as well follow another product."""
    if node.target not in SCALES:
        return False
    by = BinaryCall(node).right
    return not isinstance(by, fx.Node) or _shape(by) == ()


def _cheaper(costs: dict[Order, int], now: Order) -> Order:
    """Equal costs are no reason to turn anything."""
    return now if costs["left"] == costs["right"] else min(costs, key=lambda order: costs[order])


def _turn(program: Program, second: fx.Node, chain: _Chain) -> None:
    """Write the same chain from its other end; the scales stay between its two products."""
    a, b, c = chain.factors
    pair = (a, b) if chain.order == "right" else (b, c)
    inner = program.insert(second, aten.matmul.default, *pair)
    for scale in chain.scales:
        target: Any = scale.target
        inner = program.insert(second, target, inner, BinaryCall(scale).right, path=path_of(scale))
    outer = program.insert(second, aten.matmul.default, *((inner, c) if chain.order == "right" else (a, inner)))
    second.replace_all_uses_with(outer)
    program.graph.erase_node(second)


def _shape(node: Any) -> tuple[Size, ...]:
    return node.meta["type"].shape  # type: ignore[no-any-return]
