"""Where a graph takes a softmax, under whatever spelling, and what kind each of its attentions is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import fx

from vitgraph.ir import dialect
from vitgraph.ir.calls import AttentionCall, BinaryCall, MatmulCall, PermuteCall, SdpaCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import BETWEEN_PRODUCTS, LINEARS, NONLINEAR_POINTWISE, WEIGHTED
from vitgraph.ir.operator_schema import opname
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, Size
from vitgraph.targets.target import Target

Kind = Literal["softmax", "linear", "other"]

_SUMMED = BETWEEN_PRODUCTS | {aten.clamp.default, aten.sum.dim_IntList, aten.matmul.default}
"""What may stand between an exponential and the quotient of it and its sum."""
_BETWEEN = BETWEEN_PRODUCTS | NONLINEAR_POINTWISE | {aten.softmax.int}
"""What may stand between the two products of an attention, layers that mix its heads aside."""


@dataclass(frozen=True)
class AttentionSite:
    """An attention, fused or by hand.

    `softmax`: softmax(q kᵀ) v. `linear`: two products with nothing in between that mixes tokens non-linearly, such as
    q (kᵀ v). `other`: two products with any other function of each score between them.
    """

    node: fx.Node
    """What takes its softmax: the fused call, or the softmax by itself. Without a softmax, the last of its two products."""
    path: str
    kind: Kind
    heads: int
    head_dim: int
    """Of q and k: what the product with q sums over."""
    value_dim: int
    tokens: int
    keys: int
    bias: bool
    """Whether something is added between the two products."""
    product: fx.Node
    """The last of its two products; the fused call itself."""
    activations: tuple[str, ...] = ()
    """What bends the scores between the two products, other than a softmax."""
    mixes_heads: bool = False
    """Whether a layer mixes its heads between the two products (talking heads, arXiv 2003.02436)."""
    joins_scores: bool = False
    """Whether its scores are taken apart and put together again ahead of the softmax, as positions beside a class token are added."""

    @property
    def is_fused(self) -> bool:
        """Whether it is one `vitgraph.attention`, which passes round and balance."""
        return self.node.target is dialect.attention

    @property
    def attends_channels(self) -> bool:
        """Whether it weighs channels by their values at all tokens (XCiT, arXiv 2106.09681): linears give its operands turned round."""
        call = AttentionCall.of(self.node)
        return call is not None and _is_turned(call.q)

    @property
    def operator_refusal(self) -> str | None:
        """Why it cannot be one operator, for any target; None where it can."""
        if self.mixes_heads:
            return "a layer mixes its heads between the products (talking heads), so they are no single operator"
        if self.joins_scores:
            return "its scores are taken apart and joined again ahead of the softmax, so they are no single operator"
        return None

    @property
    def role(self) -> str:
        """What selectors call it."""
        return "attention"

    @property
    def also_named(self) -> None:
        """Nothing else."""
        return None

    @property
    def matrices(self) -> int | None:
        """How many there are of queries, of all heads, windows and images; None where the batch is not known."""
        kind = self.node.meta["type"]
        sizes = [size for size in kind.shape[:-2] if not isinstance(size, Dim)]
        return math.prod(sizes) if len(sizes) == kind.rank - 2 else None

    def kernel_refusal(self, target: Target, kind: str) -> str | None:
        """Why it cannot be one kernel that computes in `kind` (fp16, bf16, int8, …) on this target, or None where it can."""
        longest = max(self.tokens, self.keys)
        return target.attention_refusal(
            kind,
            self.head_dim,
            longest,
            self.value_dim,
            queries=self.tokens,
            heads=self.heads,
            matrices=self.matrices,
        )


def _is_turned(value: fx.Node) -> bool:
    """Is the last dimension another than the last of what the linear upstream gave?"""
    turned = False
    while value.op == "call_function" and value.target not in LINEARS | {aten.matmul.default}:
        permuted = PermuteCall.of(value)
        turned ^= permuted is not None and permuted.dims[-1] not in (-1, len(permuted.dims) - 1)
        value = value.all_input_nodes[0]
    return turned and value.target is aten.linear.default


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
    if node.target not in (aten.div.Tensor, aten.mul.Tensor):
        return False
    top, bottom = BinaryCall(node).left, BinaryCall(node).right
    if not isinstance(bottom, fx.Node):
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
    queue, seen = [node], set[fx.Node]()
    while queue and len(seen) < limit:
        each = queue.pop(0)
        if each in seen or each.op != "call_function":
            continue
        seen.add(each)
        yield each
        if each.target in _SUMMED:
            queue += each.all_input_nodes


def find_attentions(program: Program) -> tuple[AttentionSite, ...]:
    """Every attention of a program, captured or canonical, in graph order."""
    found, ways = list[AttentionSite](), _Ways()
    for node in program.calls():
        if AttentionCall.views(node) or SdpaCall.views(node):
            found.append(_fused(node))
        elif node.target is aten.matmul.default:
            found += _by_hand(MatmulCall(node), ways)
    return tuple(found)


def _fused(node: fx.Node) -> AttentionSite:
    call = AttentionCall.of(node) or SdpaCall(node)
    q, k, v = call.operands
    (tokens, head_dim), (keys, _), (_, value_dim) = (_matrix(operand) for operand in (q, k, v))
    bias = call.bias is not None
    return AttentionSite(node, path_of(node), "softmax", _heads(q), head_dim, value_dim, tokens, keys, bias, node)


_Way = tuple[fx.Node, ...]
"""A product, and what its value goes through, in order."""


class _Ways:
    """For each value the way that leads to it from the nearest product: one through a softmax, where there is one."""

    def __init__(self) -> None:
        self._known = dict[fx.Node, _Way | None]()

    def to(self, value: fx.Node) -> _Way | None:
        """The way; None where no product is upstream, or more than layout, sums, scales and activations in between."""
        if value not in self._known:
            self._known[value] = self._find(value)
        return self._known[value]

    def _find(self, value: fx.Node) -> _Way | None:
        if value.target is aten.matmul.default:
            return (value,)
        if value.op != "call_function" or value.target not in _BETWEEN | LINEARS:
            return None
        way = self.first(*reversed(value.all_input_nodes))
        if way is None or (value.target in LINEARS and not _mixes_heads(value, way[0])):
            return None
        return (*way, value)

    def first(self, *values: fx.Node) -> _Way | None:
        """The way to the first of these values that there is one to, to one with a softmax before all others."""
        ways = [way for value in values if (way := self.to(value)) is not None]
        return next((way for way in ways if _softmax_on(way) is not None), ways[0] if ways else None)


def _mixes_heads(layer: fx.Node, product: fx.Node) -> bool:
    """Does a layer read the scores of a product, its heads as channels?"""
    scores, read = product.meta["type"].shape, WeightedCall(layer).data.meta["type"].shape
    channels = WeightedCall(layer).weight.meta["type"].shape[1]
    return len(scores) == 4 and channels == scores[1] and sorted(map(str, read)) == sorted(map(str, scores))


def _softmax_on(way: _Way) -> fx.Node | None:
    """The last softmax on a way."""
    return next((node for node in reversed(way) if node.target is aten.softmax.int), None)


def _by_hand(last: MatmulCall, ways: _Ways) -> Iterator[AttentionSite]:
    """The attention that this product ends; nothing where no other product feeds it."""
    way = ways.first(last.right, last.left)
    if way is None:
        return
    softmax, product, inner = _softmax_on(way), last.node, MatmulCall(way[0])
    node = product if softmax is None else softmax
    tokens, value_dim = _matrix(product)
    if way == ways.to(last.left):  # (q kᵀ) v
        keys, head_dim = _matrix(inner.node)[1], _matrix(inner.left)[1]
    else:  # q (kᵀ v)
        keys, head_dim = _matrix(inner.left)[1], _matrix(last.left)[1]
    bias = any(each.target is aten.add.Tensor and isinstance(BinaryCall(each).right, fx.Node) for each in way)
    bends = tuple(dict.fromkeys(opname(each.target) for each in way if each.target in NONLINEAR_POINTWISE))
    kind: Kind = "softmax" if softmax else "other" if bends else "linear"
    mixes, joins = any(each.target in LINEARS for each in way), any(each.target is aten.cat.default for each in way)
    yield AttentionSite(
        node, path_of(node), kind, _heads(product), head_dim, value_dim, tokens, keys, bias, product, bends,
        mixes_heads=mixes, joins_scores=joins,
    )  # fmt: skip


def find_joined_products(program: Program) -> list[tuple[fx.Node, tuple[str, ...]]]:
    """Two products with the scores of the first on the left of the second, which `find_attentions` makes nothing of.

    Each as its last product and what stands between the two: an attention under a spelling or of a kind that is not known.
    """
    known = {site.product for site in find_attentions(program)}
    found = [(node, _joined(node)) for node in program.calls(aten.matmul.default) if node not in known]
    return [(node, between) for node, between in found if between]


def _joined(last: fx.Node) -> tuple[str, ...]:
    """The operators from a product's left side up to the product that gives its scores; none where there is no such product."""
    left = MatmulCall(last).left
    size = _matrix(left)
    above = {left: tuple[str, ...]()}
    for node in _growing(above):
        if node.target is aten.matmul.default and _matrix(node) == size:
            return tuple(dict.fromkeys(above[node]))
        if node.op == "call_function" and node.target not in WEIGHTED and node.target is not aten.matmul.default:
            for each in node.all_input_nodes:
                above.setdefault(each, (opname(node.target), *above[node]))
    return ()


def _growing(found: dict[fx.Node, tuple[str, ...]], limit: int = 60) -> Iterator[fx.Node]:
    """The nodes of a table to which more are added on the way, in order, up to a limit."""
    for position in range(limit):
        if position >= len(found):
            return
        yield list(found)[position]


def _matrix(node: fx.Node) -> tuple[int, int]:
    """Rows and columns of a value for one image."""
    shape: tuple[int, ...] = node.meta["type"].at(1)
    *_, rows, columns = (1, 1, *shape)
    return rows, columns


def _heads(node: fx.Node) -> int:
    shape: tuple[Size, ...] = node.meta["type"].shape
    *_, heads, _, _ = (1, 1, 1, *shape)
    return 1 if isinstance(heads, Dim) else heads
