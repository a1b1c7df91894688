"""Who consumes a value and what produces it, past what leaves it the same channels: the steps that roles are told by.

Layout, quantizers, norms, depthwise convolutions and what passes insert (`smooth-quant`'s constants) stand between two
products without being a reason for either.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch import fx

from vitgraph.ir import dialect
from vitgraph.ir.call_arguments import name_of
from vitgraph.ir.calls import BinaryCall, ConvCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import (
    ACTIVATIONS,
    BETWEEN_PRODUCTS,
    LAYOUT,
    NONLINEAR_POINTWISE,
    NORMS,
    SCALES,
    WEIGHTED,
)
from vitgraph.ir.tensor_type import Dim

_CHOICES = (aten.topk.default, aten.argmax.default)
"""What makes indices of values: those that are gathered by them are other values."""
_PICKS = (aten.gather.default, aten.index.Tensor, aten.index_select.default)
"""What picks some of the elements of its first argument."""
_BOUNDS = (aten.sigmoid.default, aten.exp.default)
"""What makes scores, places and sizes of numbers of any size."""
GATED = "gated"
"""Stands in for an argument's name: the value is multiplied with one that went through an activation."""


def is_depthwise(node: fx.Node) -> bool:
    """Whether a node is a convolution with one filter a channel, `[C, 1, …]`."""
    conv = ConvCall.of(node)
    if conv is None:
        return False
    filters, channels, *_ = conv.weight.meta["type"].static
    return bool(channels == 1 and filters == conv.groups)


def downstream(node: fx.Node) -> Iterator[tuple[fx.Node, str]]:
    """The first readers of a value that do more than move, scale or filter its channels, and the name of the argument that it is."""
    for user in node.users:
        name = (name_of(user, node) if user.op == "call_function" else None) or ""
        moves = user.target in LAYOUT or (user.target in SCALES and name == "self")
        product = user.target is aten.mul.Tensor and all(isinstance(arg, fx.Node) for arg in user.args)
        if product and _is_gate(user, node):
            yield user, GATED
        if moves or user.target in NORMS or is_affine(user) or is_depthwise(user) or _rotates(user, node):
            yield from downstream(user)
        elif product:
            yield from ((each, "") for each in user.users if each.target in ACTIVATIONS)
        else:
            yield user, name


def is_affine(node: fx.Node) -> bool:
    """A shift or a factor by a constant tensor, such as `smooth-quant` leaves."""
    if node.target not in (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor):
        return False
    return any(isinstance(arg, fx.Node) and arg.op == "get_attr" for arg in node.args)


def _is_gate(product: fx.Node, value: fx.Node) -> bool:
    """Is the other factor what an activation outputs?"""
    return any(
        source.target in ACTIVATIONS
        for factor in product.all_input_nodes
        if factor is not value
        for source in upstream(factor)
    )


def _rotates(total: fx.Node, value: fx.Node) -> bool:
    """Is this a sum of nothing but one value, moved and scaled by constants, as a rotary embedding is?"""
    if total.target is not aten.add.Tensor or len(total.all_input_nodes) < 2:
        return False
    ends = [list(islice(origins(each), 2)) for each in (value, *total.all_input_nodes)]
    return len(ends[0]) == 1 and all(each == ends[0] for each in ends)


def upstream(value: Any) -> Iterator[fx.Node]:
    """The producers of a value, upstream of what only moves, squares, gates, filters or normalizes it within a branch."""
    if not isinstance(value, fx.Node):
        return
    if value.target in LAYOUT or is_affine(value) or _squares(value):
        for arg in value.all_input_nodes:
            yield from upstream(arg)
        return
    yield value
    gated = value.target is aten.mul.Tensor and len(value.all_input_nodes) == 2
    if gated or (value.target is aten.layer_norm.default and len(value.users) == 1):
        for arg in value.all_input_nodes:
            if arg.op == "call_function" and (gated or arg.target in ACTIVATIONS or arg.target in LAYOUT):
                yield from upstream(arg)


def _squares(node: fx.Node) -> bool:
    """A power, or a value multiplied with itself: squared ReLU and StarReLU."""
    product = BinaryCall.of(node)
    alone = product is not None and node.target is aten.mul.Tensor and product.left is product.right
    return alone or node.target is aten.pow.Tensor_Scalar


def origins(value: fx.Node) -> Iterator[fx.Node]:
    """The producers of a value upstream of sums, products of single elements, norms and depthwise convolutions, constants aside.

    Further up than `upstream`: the terms of a residual stream are all among them.
    """
    queue, seen = [value], set[fx.Node]()
    while queue:
        node = queue.pop()
        if node in seen or node.op == "get_attr":
            continue
        seen.add(node)
        if node.target in BETWEEN_PRODUCTS or node.target in NORMS or is_depthwise(node):
            queue += node.all_input_nodes
        else:
            yield node


def ends_in_output(node: fx.Node) -> bool:
    """Does everything that is computed from a value reach the output, or a choice of the largest, without another product?"""
    queue, seen = deque([node]), set[fx.Node]()
    while queue:  # nearest first: the next block has a product
        for user in queue.popleft().users:
            if user.target in WEIGHTED or user.target in (dialect.attention, aten.matmul.default):
                return False
            if user not in seen and user.target not in _CHOICES:
                seen.add(user)
                queue.append(user)
    return True


def feeds_positions(node: fx.Node) -> bool:
    """Is a value, moved, scaled, bounded or picked from, where an image is sampled?"""
    if not node.graph.find_nodes(op="call_function", target=aten.grid_sampler.default):
        return False
    readers = _readers(node, BETWEEN_PRODUCTS | NONLINEAR_POINTWISE | {*_PICKS})
    return any(user.target is aten.grid_sampler.default and name == "grid" for user, name in readers)


def feeds_weights(node: fx.Node) -> bool:
    """Does a softmax of a value, moved and added to, weigh something in sums that are no product of two matrices?

    Of all of it: MobileViTv2's one product gives the scores of tokens, and keys and values beside them.
    """
    if not node.graph.find_nodes(op="call_function", target=aten.softmax.int):
        return False
    readers = _readers(node, BETWEEN_PRODUCTS)
    softmaxes = [user for user, _ in readers if user.target is aten.softmax.int and _numbers(user) == _numbers(node)]
    return any(all(user.target is not aten.matmul.default for user, _ in downstream(each)) for each in softmaxes)


def _numbers(node: fx.Node) -> int:
    """How many numbers a value of one image has."""
    return math.prod(size.at(1) if isinstance(size, Dim) else size for size in node.meta["type"].shape)


def weighs_points(value: fx.Node) -> bool:
    """Is a value, moved, multiplied with what was sampled from an image?"""
    if not value.graph.find_nodes(op="call_function", target=aten.grid_sampler.default):
        return False
    readers = [user for user, _ in _readers(value, LAYOUT)]
    products = [user for user in readers if user.target is aten.mul.Tensor]
    factors = (source for product in products for factor in product.all_input_nodes for source in upstream(factor))
    return any(source.target is aten.grid_sampler.default for source in factors)


def predicts(node: fx.Node) -> bool:
    """Is a value the output but for layout, factors and terms of another shape, or else for what a sigmoid or an exponential bounds?

    The last branch of a residual stream is not: what it is added to is of its shape, and what is read is often normalized.
    """
    if not ends_in_output(node):
        return False
    readers = [user for user, _ in _readers(node, frozenset(), everything=True) if user.op != "output"]
    if any(user.target in _BOUNDS for user in readers):
        return not any(user.target in NORMS for user in readers)
    return all(user.target in BETWEEN_PRODUCTS and not _is_of_one_shape(user) for user in readers)


def _is_of_one_shape(node: fx.Node) -> bool:
    """Is this a sum of two computed values of one shape?"""
    if node.target is not aten.add.Tensor:
        return False
    types = [each.meta["type"] for each in node.all_input_nodes if each.op != "get_attr"]
    return len(types) == 2 and types[0] == types[1]


def _readers(node: fx.Node, through: frozenset[object], everything: bool = False) -> Iterator[tuple[fx.Node, str]]:
    """All that read a value or what operators of `through` make of it as their first argument or a term; under which name."""
    queue, seen = [node], set[fx.Node]()
    while queue:
        value = queue.pop()
        for user in value.users:
            name = (name_of(user, value) if user.op == "call_function" else None) or ""
            yield user, name
            goes_on = everything or (user.target in through and name not in ("index", "indices"))
            if user not in seen and goes_on:
                seen.add(user)
                queue.append(user)
