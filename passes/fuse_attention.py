"""Make every softmax attention one node, whether it was a fused call or written by hand.

Before:
    scores = aten.matmul.default(q, kt)                       # kt is k with its last two dimensions swapped
    scaled = aten.mul.Tensor(scores, 0.125)
    biased = aten.add.Tensor(scaled, bias)                    # position bias, window mask: any number of them
    probabilities = aten.softmax.int(biased, -1)
    out = aten.matmul.default(probabilities, v)

After:
    out = vitgraph.attention.default(q, k, v, bias, 0.125)

The same comes of `aten.scaled_dot_product_attention`. A factor per head (cosine attention) moves into q; a mask added
under another view of the scores (shifted windows) is brought to the scores' own shape.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from vitgraph.analysis.attention import find_attentions, find_joined_products
from vitgraph.analysis.branches import weighs_points
from vitgraph.ir import dialect
from vitgraph.ir.calls import BinaryCall, MatmulCall, PermuteCall, ReshapeCall, SdpaCall, SoftmaxCall, operands_of
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import SCALES
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, Size
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass


class Mismatch(Exception):
    """This softmax is not an attention's; the message says why."""


@dataclass(frozen=True)
class FuseAttention(Pass):
    """softmax(scale q kᵀ + bias) v becomes `vitgraph.attention`."""

    name: ClassVar[str] = "fuse-attention"
    effect: ClassVar[Effect] = Effect.REORDERS

    def run(self, program: Program, context: Context) -> None:
        """Fuse calls first, then what is written by hand; a softmax that doesn't fit is refused with the reason."""
        for node in program.calls(aten.scaled_dot_product_attention.default):
            if why := _why_no_operator(SdpaCall(node)):
                context.refuse(path_of(node), why)
            elif context.take(self.name, path_of(node)):
                _replace(program, node, *_read_call(program, node))
        mixed = {site.node for site in find_attentions(program) if site.mixes_heads}
        for node in program.calls(aten.softmax.int):
            try:
                out, parts = _Scores(program, node).match()
            except Mismatch as why:
                context.refuse(path_of(node), _TALKING_HEADS if node in mixed else str(why))
                continue
            if context.take(self.name, path_of(node)):
                _replace(program, out, *parts.build(out))
        _refuse_others(program, context)


_POINTS = "its softmax weighs points sampled from an image (deformable attention), not the values of all tokens"
_TALKING_HEADS = "a layer mixes its heads between the products (talking heads), so they are no single operator"


def _refuse_others(program: Program, context: Context) -> None:
    """Say what looks like an attention and has no softmax that could be fused."""
    for site in find_attentions(program):
        if site.kind == "other":
            joined = ", ".join(site.activations)
            context.refuse(site.path, f"its products are joined by {joined}, not by a softmax")
    for node, between in find_joined_products(program):
        if "softmax" not in between:  # said at the softmax
            context.refuse(
                path_of(node), f"its products are joined by {', '.join(between)}: no attention that is known"
            )


def _why_no_operator(call: SdpaCall) -> str | None:
    """Why a fused call has no place in `vitgraph.attention`, or None."""
    if call.is_grouped:
        return "grouped-query attention has fewer keys than queries"
    sizes = (each.meta["type"].shape[-2] for each in call.operands[:2])
    if call.is_causal and any(isinstance(size, Dim) for size in sizes):
        return "its causal mask is as large as the batch, which is not known"
    return None


def _replace(program: Program, out: fx.Node, q: Any, k: Any, v: Any, bias: Any, scale: float) -> None:
    new = program.insert(out, dialect.attention, q, k, v, bias, scale)
    out.replace_all_uses_with(new)
    program.graph.erase_node(out)


def _read_call(program: Program, node: fx.Node) -> tuple[Any, ...]:
    call = SdpaCall(node)
    q, k, v = call.operands
    mask, dtype = call.bias, q.meta["type"].dtype
    if call.is_causal:
        tokens, keys = q.meta["type"].shape[-2], k.meta["type"].shape[-2]
        future = torch.full((tokens, keys), -math.inf, dtype=dtype).triu(1)
        mask = program.constant_node(node, f"{path_of(node)}.causal_mask", future)
    elif mask is not None and mask.meta["type"].dtype == torch.bool:
        zero = program.insert(node, aten.mul.Tensor, program.insert(node, aten.to.dtype, mask, dtype), 0.0)
        masked = program.insert(node, aten.logical_not.default, mask)
        mask = program.insert(node, aten.masked_fill.Scalar, zero, masked, -math.inf)
    scale = 1 / math.sqrt(q.meta["type"].shape[-1]) if call.scale is None else call.scale
    return _absorb(q, k, v, mask, scale)


def _absorb(q: Any, k: Any, v: Any, bias: Any, scale: float) -> tuple[Any, ...]:
    """Take plain factors of q and k into the scale."""
    operands = [q, k]
    for position, operand in enumerate(operands):
        call = BinaryCall(operand) if operand.target in SCALES and len(operand.users) < 2 else None
        if call is not None and isinstance(call.right, int | float):
            scale = scale / call.right if call.divides else scale * call.right
            operands[position] = call.left
    return (*operands, v, bias, float(scale))


class _Scores:
    """Walks from a softmax up to the product q kᵀ, collecting what is multiplied and added on the way."""

    def __init__(self, program: Program, softmax: fx.Node) -> None:
        self.program, self.softmax = program, softmax
        self.scale = 1.0
        self.factors = list[tuple[fx.Node, tuple[Size, ...]]]()  # factors per head, under which shape
        self.biases = list[tuple[fx.Node, float, tuple[Size, ...]]]()  # what is added, its factor, under which shape

    def match(self) -> tuple[fx.Node, _Scores]:
        shape = self.softmax.meta["type"].shape
        if SoftmaxCall(self.softmax).dim not in (-1, len(shape) - 1):
            raise Mismatch("the softmax is not over the last dimension")
        reader = _only_user(self.softmax)
        self.out = reader
        node: Any = self.softmax.args[0]
        while isinstance(node, fx.Node) and node.op == "call_function" and node.target is not aten.matmul.default:
            node = self._step(node)
        if not isinstance(node, fx.Node) or node.op != "call_function":
            raise Mismatch("what goes into the softmax is no product of two values")
        if node.meta["type"].shape != shape:
            raise Mismatch("the softmax reads the scores under another shape")
        if any(view != shape for _, view in self.factors):
            raise Mismatch("the factor per head is applied under another shape")
        self.product = node
        return reader, self

    def _step(self, node: fx.Node) -> Any:
        """One operator up; `Mismatch` for one that has no place between the product and the softmax."""
        if node.target is aten.to.dtype:
            return node.args[0]
        if node.target is aten.reshape.default:
            source = ReshapeCall(node).data
            if source.meta["type"].shape[-2:] != node.meta["type"].shape[-2:]:
                raise Mismatch("a reshape of the scores mixes tokens")
            return source
        call = BinaryCall.of(node)
        if call is not None and node.target in SCALES:
            return self._factor(call)
        if call is not None and node.target is aten.add.Tensor and isinstance(call.right, fx.Node):
            a, b = call.left, call.right
            scores, bias = (a, b) if _has_product(a) else (b, a)
            if self.factors:
                raise Mismatch("a factor per head is applied to the bias too")
            self.biases.append((bias, self.scale, node.meta["type"].shape))
            return scores
        raise Mismatch(f"{node.target} stands between the product and the softmax")

    def _factor(self, call: BinaryCall) -> Any:
        a, b, divides = call.left, call.right, call.divides
        value = self.program.constant(b)
        number = float(value) if value is not None and value.numel() == 1 else b
        if isinstance(number, int | float):
            self.scale = self.scale / number if divides else self.scale * number
            return a
        if not isinstance(b, fx.Node) or b.meta["type"].shape[-2:] != (1, 1) or divides:
            raise Mismatch("the scores are multiplied by something other than a number or a factor per head")
        self.factors.append((b, call.node.meta["type"].shape))
        return a

    def build(self, out: fx.Node) -> tuple[Any, ...]:
        """q, k, v, bias and scale, with the nodes they need inserted ahead of `out`."""
        program = self.program
        q, kt = operands_of(self.product)
        for factor, _ in self.factors:
            q = program.insert(out, aten.mul.Tensor, q, factor)
        bias: Any = None
        for term, times, view in reversed(self.biases):
            shaped = self._to_scores(term, view, out)
            scaled = shaped if times == 1.0 else program.insert(out, aten.mul.Tensor, shaped, times)
            bias = scaled if bias is None else program.insert(out, aten.add.Tensor, bias, scaled)
        return _absorb(q, _swap_last(program, kt, out), MatmulCall(out).right, bias, self.scale)

    def _to_scores(self, term: fx.Node, view: tuple[Size, ...], out: fx.Node) -> fx.Node:
        """A term added under another view of the scores, in the scores' own shape."""
        shape = self.product.meta["type"].shape
        if view == shape:
            return term
        program = self.program
        expanded = program.insert(out, aten.expand.default, term, [_size(program, s, out) for s in view])
        return program.insert(out, aten.reshape.default, expanded, [-1 if isinstance(s, Dim) else s for s in shape])


def _size(program: Program, size: Size, before: fx.Node) -> Any:
    """A size as an argument: a number, or a node that computes it from the batch."""
    if not isinstance(size, Dim):
        return size
    batch = program.insert(before, aten.sym_size.int, program.inputs[0], 0)
    return program.insert(before, operator.mul, batch, size.times) if size.times != 1 else batch


def _only_user(softmax: fx.Node) -> fx.Node:
    """The product with v, downstream of casts."""
    node = softmax
    while True:
        if len(node.users) != 1:
            raise Mismatch("the softmax's result is read more than once")
        user = next(iter(node.users))
        if user.target is aten.matmul.default and user.args[0] is node:
            return user
        if weighs_points(node):
            raise Mismatch(_POINTS)
        if user.target is not aten.to.dtype:
            raise Mismatch(f"the softmax's result goes into {user.target}, not into a product with v")
        node = user


def _has_product(node: fx.Node) -> bool:
    """Is the product q kᵀ upstream of this node, through factors, additions and views?"""
    while node.op == "call_function" and node.target is not aten.matmul.default:
        steps = (aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor, aten.reshape.default, aten.to.dtype)
        if node.target not in steps or not isinstance(node.args[0], fx.Node):
            return False
        added = BinaryCall(node).right if node.target is aten.add.Tensor else None
        if isinstance(added, fx.Node) and _has_product(added):
            return True
        node = node.args[0]
    return node.op == "call_function"


def _swap_last(program: Program, kt: fx.Node, before: fx.Node) -> fx.Node:
    """k out of kᵀ; two permutes in a row are one, and none where they undo each other."""
    rank = kt.meta["type"].rank
    order = [*range(rank - 2), rank - 1, rank - 2]
    source = kt
    call = PermuteCall.of(kt)
    if call is not None:
        source, order = call.data, [call.dims[position] for position in order]
    return source if order == list(range(rank)) else program.insert(before, aten.permute.default, source, order)
