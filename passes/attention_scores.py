"""What a softmax reads, from the product q kᵀ on: an attention's scores, taken apart.

A factor per head (cosine attention) moves into q. What is added under another view of the scores (masks of shifted windows,
positions by height and width) is brought to the scores' own shape.
"""

from __future__ import annotations

from functools import partial, reduce
from itertools import groupby
from typing import Any

from torch import fx

from vitgraph.analysis.branches import weighs_points
from vitgraph.ir.calls import BinaryCall, MatmulCall, PermuteCall, QuantizeCall, ReshapeCall, SoftmaxCall, operands_of
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import SCALES
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, Size
from vitgraph.passes.attention_operands import absorb_factors, sized, swap_last, without_factor

_POINTS = "its softmax weighs points sampled from an image (deformable attention), not the values of all tokens"


class Mismatch(Exception):
    """This softmax is not an attention's; the message says why."""


class Scores:
    """Walks from a softmax up to the product q kᵀ, collecting what is multiplied and added on the way."""

    def __init__(self, program: Program, softmax: fx.Node) -> None:
        self.program, self.softmax = program, softmax
        self.scale = 1.0
        self.swapped = False  # whether the product is vᵀ pᵀ
        self.rounded: QuantizeCall | None = None  # what rounds the probabilities
        self.factors = list[tuple[fx.Node, tuple[Size, ...]]]()  # factors per head, under which shape
        self.biases = list[tuple[fx.Node, float, tuple[Size, ...]]]()  # what is added, its factor, under which shape

    def match(self) -> tuple[fx.Node, Scores]:
        """The product with v, and this; `Mismatch` where there is no attention."""
        shape = self.softmax.meta["type"].shape
        if SoftmaxCall(self.softmax).dim not in (-1, len(shape) - 1):
            raise Mismatch("the softmax is not over the last dimension")
        reader = self._reader()
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

    def _reader(self) -> fx.Node:
        """The product with v: downstream of casts, of a pair that rounds the probabilities, of rows and columns swapped."""
        node = self.softmax
        while True:
            if len(node.users) != 1:
                raise Mismatch("the softmax's result is read more than once")
            user = next(iter(node.users))
            product = MatmulCall.of(user)
            if product is not None and (product.right if self.swapped else product.left) is node:
                return user
            pair = QuantizeCall.of(user)
            if (
                pair is not None
                and self.rounded is None
                and pair.data is node
                and pair.axis is None
                and pair.shift is None
            ):
                self.rounded = pair
            elif _swaps_last(user) and not self.swapped:
                self.swapped = True
            elif weighs_points(node):
                raise Mismatch(_POINTS)
            elif user.target is not aten.to.dtype:
                raise Mismatch(f"the softmax's result goes into {user.target}, not into a product with v")
            node = user

    def _step(self, node: fx.Node) -> Any:
        """One operator up; `Mismatch` for one that has no place between the product and the softmax."""
        if node.target is aten.to.dtype:
            return node.args[0]
        if node.target is aten.reshape.default:
            return ReshapeCall(node).data
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
        """q, k, v, bias and scale, and what rounds the probabilities; with the nodes they need inserted ahead of `out`."""
        program = self.program
        q, kt = operands_of(self.product)
        kt, self.scale = without_factor(kt, self.scale)  # exporters of ONNX scale kᵀ
        for factor, _ in self.factors:
            q = program.insert(out, aten.mul.Tensor, q, factor)
        bias: Any = None
        for view, terms in groupby(reversed(self.biases), key=lambda bias: bias[2]):
            added = [t if times == 1.0 else program.insert(out, aten.mul.Tensor, t, times) for t, times, _ in terms]
            shaped = self._to_scores(reduce(partial(program.insert, out, aten.add.Tensor), added), view, out)
            bias = shaped if bias is None else program.insert(out, aten.add.Tensor, bias, shaped)
        product = MatmulCall(out)
        v = swap_last(program, product.left, out) if self.swapped else product.right
        parts = absorb_factors(q, swap_last(program, kt, out), v, bias, self.scale)
        return parts if self.rounded is None else (*parts, self.rounded.scale, self.rounded.format.name)

    def _to_scores(self, term: fx.Node, view: tuple[Size, ...], out: fx.Node) -> fx.Node:
        """A term added under another view of the scores, in the scores' own shape."""
        shape = self.product.meta["type"].shape
        if view == shape:
            return term
        program, expanded = self.program, term
        if term.meta["type"].shape != view:
            expanded = program.insert(out, aten.expand.default, term, [sized(program, s, out) for s in view])
        return program.insert(out, aten.reshape.default, expanded, [-1 if isinstance(s, Dim) else s for s in shape])


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


def _swaps_last(node: fx.Node) -> bool:
    call = PermuteCall.of(node)
    if call is None:
        return False
    rank = node.meta["type"].rank
    return [dim % rank for dim in call.dims] == [*range(rank - 2), rank - 1, rank - 2]
