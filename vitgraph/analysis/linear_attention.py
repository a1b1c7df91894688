"""Where a graph takes a linear attention (Q (Kᵀ V)) / (Q ΣK), and which values it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx

from vitgraph.ir import dialect
from vitgraph.ir.calls import BinaryCall, CatCall, SliceCall, operands_of
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import LAYOUT, ROUNDS
from vitgraph.ir.program import Program


@dataclass(frozen=True)
class LinearAttention:
    """A quotient of two products of q; `inner` is the product inside the dividend, Kᵀ V (or Q Kᵀ, by the order of products)."""

    quotient: fx.Node
    product: fx.Node
    """The product that gives the dividend."""
    inner: fx.Node
    divisor: fx.Node
    """What is divided by, before a small number is added to it."""
    sums: int | None
    """From which column on `inner` holds ΣK, where one product gives both."""

    branches: int = 1
    """How many values, laid side by side, q, k and v are cut from: EfficientViT's scales. Each has its share of the heads."""

    @property
    def path(self) -> str:
        """The path of the module it came from."""
        return path_of(self.quotient)

    @property
    def dividend(self) -> fx.Node:
        """What is divided."""
        return self.quotient.args[0]  # type: ignore[return-value]

    def operands(self) -> list[tuple[fx.Node, fx.Node]]:
        """Where q, k and v come from, each once: a producer, and its reader on the way to a product."""
        outer = [(arg, self.product) for arg in operands_of(self.product) if _product_above(arg) is not self.inner]
        ways = [*outer, *((arg, self.inner) for arg in operands_of(self.inner))]
        return list(dict.fromkeys(pair for value, reader in ways for pair in _producers(value, reader)))


def find_linear_attentions(program: Program) -> list[LinearAttention]:
    """Every quotient whose dividend is a product of a product, in graph order."""
    found = [_match(node) for node in program.calls(aten.div.Tensor)]
    return [each for each in found if each is not None]


def _match(node: fx.Node) -> LinearAttention | None:
    quotient = BinaryCall(node)
    product, below = _product_above(quotient.left), _without_epsilon(quotient.right)
    if product is None or _source_above(below) is None:
        return None
    left, right = (_product_above(factor) for factor in operands_of(product))
    inner = right or left
    if inner is None:
        return None
    sums = None if right is None else _sums(product, below)
    return LinearAttention(node, product, inner, below, sums, _branches(inner))


def _branches(inner: fx.Node) -> int:
    """How many values of one size are laid side by side, along dimension 1, to what the heads are cut from."""
    left, right = (_before_heads(factor) for factor in operands_of(inner))
    cat = CatCall.of(left)
    if left is not right or cat is None or cat.dim != 1:
        return 1
    sizes = {part.meta["type"].shape[1] for part in cat.tensors}
    heads, count = inner.meta["type"].shape[1], len(cat.tensors)
    return count if len(sizes) == 1 and inner.meta["type"].rank == 4 and heads % count == 0 else 1


def _before_heads(value: Any) -> fx.Node:
    """What an operand was before it was cut into heads; a cat stops the way."""
    while value.target is aten.relu.default or (value.target in LAYOUT and value.target is not aten.cat.default):
        value = value.args[0]
    return value  # type: ignore[no-any-return]


def _without_epsilon(value: Any) -> Any:
    """The divisor itself: without the small number that keeps it from zero."""
    while isinstance(value, fx.Node) and value.target in (aten.add.Tensor, aten.clamp.default):
        added = BinaryCall(value).right if value.target is aten.add.Tensor else None
        if isinstance(added, fx.Node) and added.op != "get_attr":
            return value
        value = value.args[0]
    return value


def _product_above(value: Any) -> fx.Node | None:
    source = _source_above(value)
    return source if source is not None and source.target is aten.matmul.default else None


def _source_above(value: Any) -> fx.Node | None:
    """The product or sum that gives a value, upstream of layout and quantizers."""
    while isinstance(value, fx.Node) and value.target in LAYOUT | ROUNDS:
        if value.target is aten.cat.default:
            sources = {_source_above(arg) for arg in value.all_input_nodes}
            return sources.pop() if len(sources) == 1 else None
        value = value.args[0]
    known = isinstance(value, fx.Node) and value.target in (aten.matmul.default, aten.sum.dim_IntList)
    return value if known else None


def _sums(product: fx.Node, divisor: Any) -> int | None:
    """The column of the product from which on the divisor is cut; None where it is computed apart."""
    part = SliceCall.of(divisor)
    if part is None or part.data is not product:
        return None
    rank, width, first = product.meta["type"].rank, product.meta["type"].shape[-1], part.start
    to_the_end = part.dim % rank == rank - 1 and first is not None and (part.end is None or part.end >= width)
    return first % width if to_the_end else None


def _producers(value: Any, reader: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """What a value is made of, upstream of layout and ReLU: each computed producer with its reader."""
    if not isinstance(value, fx.Node) or value.op != "call_function" or value.target is dialect.fake_quantize:
        return
    if value.target not in LAYOUT and value.target is not aten.relu.default:
        yield value, reader
        return
    for arg in value.all_input_nodes:
        yield from _producers(arg, value)
