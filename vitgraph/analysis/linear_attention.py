"""Where a graph takes a linear attention (Q (Kᵀ V)) / (Q ΣK), and which values it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from vitgraph.ir import dialect
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import LAYOUT
from vitgraph.ir.program import Program

aten = torch.ops.aten

_CUTS = (LAYOUT | {aten.relu.default}) - {aten.cat.default}


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
        outer = [(arg, self.product) for arg in self.product.args if _product_above(arg) is not self.inner]
        ways = [*outer, *((arg, self.inner) for arg in self.inner.args)]
        return list(dict.fromkeys(pair for value, reader in ways for pair in _producers(value, reader)))


def find_linear_attentions(program: Program) -> list[LinearAttention]:
    """Every quotient whose dividend is a product of a product, in graph order."""
    found = [_match(node) for node in program.calls(aten.div.Tensor)]
    return [each for each in found if each is not None]


def _match(node: fx.Node) -> LinearAttention | None:
    dividend, divisor = node.args[:2]
    product, below = _product_above(dividend), _without_epsilon(divisor)
    if product is None or _source_above(below) is None:
        return None
    for position in (1, 0):
        inner = _product_above(product.args[position])
        if inner is not None:
            sums = _sums(product, below) if position else None
            return LinearAttention(node, product, inner, below, sums, _branches(inner))
    return None


def _branches(inner: fx.Node) -> int:
    """How many values of one size are laid side by side, along dimension 1, to what the heads are cut from."""
    sources = [_before_heads(arg) for arg in inner.args]
    if sources[0] is not sources[1] or sources[0].target is not aten.cat.default or sources[0].args[1] != 1:
        return 1
    parts: Any = sources[0].args[0]
    sizes = {part.meta["type"].shape[1] for part in parts}
    heads = inner.meta["type"].shape[1]
    return len(parts) if len(sizes) == 1 and inner.meta["type"].rank == 4 and heads % len(parts) == 0 else 1


def _before_heads(value: Any) -> fx.Node:
    """What an operand was before it was cut into heads; a cat stops the way."""
    while value.target in _CUTS:
        value = value.args[0]
    return value  # type: ignore[no-any-return]


def _without_epsilon(value: Any) -> Any:
    """The divisor itself: without the small number that keeps it from zero."""
    while isinstance(value, fx.Node) and value.target in (aten.add.Tensor, aten.clamp.default):
        if value.target is aten.add.Tensor and isinstance(value.args[1], fx.Node) and value.args[1].op != "get_attr":
            return value
        value = value.args[0]
    return value


def _product_above(value: Any) -> fx.Node | None:
    source = _source_above(value)
    return source if source is not None and source.target is aten.matmul.default else None


def _source_above(value: Any) -> fx.Node | None:
    """The product or sum that gives a value, upstream of layout and quantizers."""
    while isinstance(value, fx.Node) and (value.target in LAYOUT or value.target is dialect.log2_quantize):
        if value.target is aten.cat.default:
            sources = {_source_above(arg) for arg in value.all_input_nodes}
            return sources.pop() if len(sources) == 1 else None
        value = value.args[0]
    known = isinstance(value, fx.Node) and value.target in (aten.matmul.default, aten.sum.dim_IntList)
    return value if known else None


def _sums(product: fx.Node, divisor: Any) -> int | None:
    """The column of the product from which on the divisor is cut; None where it is computed apart."""
    if divisor.target is not aten.slice.Tensor or divisor.args[0] is not product:
        return None
    rank, width = product.meta["type"].rank, product.meta["type"].shape[-1]
    _, dim, first, last = (*divisor.args, None, None, None)[:4]
    to_the_end = dim % rank == rank - 1 and first is not None and (last is None or last >= width)
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
