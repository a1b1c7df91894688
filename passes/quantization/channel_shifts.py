"""A constant z taken from what products read, for which their biases make up: the pair on the value takes it in.

Before:
    c = aten.sub.Tensor(x, z)
    y = aten.linear.default(c, w, b + w z)

While the program is quantized, placed and fitted:
    xq = vitgraph.fake_quantize.default(x, x_scale, None, 'int8', z)       # round(x - z) + z
    y = aten.linear.default(xq, wq, b)

so that past the pairs lies the program as it was, and no bias depends on how a weight is rounded. `absorb-shifts` undoes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from vitgraph.ir import dialect
from vitgraph.ir.program import Program
from vitgraph.passes import affine

aten = torch.ops.aten

_PRODUCTS = (aten.linear.default, aten.conv2d.default)


def take_in(program: Program, point: fx.Node, readers: Sequence[fx.Node]) -> tuple[fx.Node, fx.Node | None]:
    """What a pair for these readers stands on, and around what: x and z where `point` is x - z and all biases allow it.

    Then the readers read x, with biases that go with it; else they and the point are as they were.
    """
    z = point.args[1] if point.target is aten.sub.Tensor else None
    if not isinstance(z, fx.Node) or not all(may_shift(program, reader, point, z) for reader in readers):
        return point, None
    x = point.args[0]
    assert isinstance(x, fx.Node)
    for reader in readers:
        move_bias(program, reader, -program.tensor(str(z.target)), "around")
        reader.update_arg(0, x)
    return x, z


def may_shift(program: Program, product: fx.Node, point: fx.Node, z: fx.Node) -> bool:
    """Does this product read the point, with a constant weight, a number of z for each input, and a bias of its own?"""
    values = program.constant(z)
    if values is None or product.target not in _PRODUCTS or product.args[0] is not point:
        return False
    bias = program.constant(product.args[2]) if len(product.args) > 2 else None
    weight = _weight(program, product)
    if bias is None or weight is None:
        return False
    if product.target is aten.linear.default:
        return tuple(values.shape) == (weight.shape[1],)
    padded = any(product.args[4])  # type: ignore[arg-type]  # with zeros, which are not shifted
    return not padded and tuple(values.shape) == tuple(weight.shape[1:]) == (values.numel(), 1, 1)


def move_bias(program: Program, product: fx.Node, z: Tensor, suffix: str) -> None:
    """Add to the bias what a constant input z adds to the output."""
    bias, weight = program.tensor(str(product.args[2].target)).detach(), _weight(program, product)  # type: ignore[union-attr]
    assert weight is not None
    affine.set_constant(program, product, 2, bias + affine.response(weight.to(bias.dtype), z.to(bias.dtype)), suffix)


def _weight(program: Program, product: fx.Node) -> Tensor | None:
    """What is multiplied, `[N, K, …]`, rounded where it is; None where it is computed from more than constants."""

    def value(node: fx.Node) -> Tensor:
        constant = program.constant(node)
        if constant is not None:
            return constant.detach()
        if node.target not in (dialect.mask, dialect.fake_quantize, dialect.dequantize):
            raise LookupError(node)
        return node.target(*fx.map_arg(node.args, value))  # type: ignore[no-any-return]

    try:
        return value(product.args[1])  # type: ignore[arg-type]
    except LookupError:
        return None
