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

from torch import Tensor, fx

from vitgraph.ir import dialect
from vitgraph.ir.calls import BinaryCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import LINEARS
from vitgraph.ir.program import Program
from vitgraph.passes import affine


def move_shift_into_pair(
    program: Program, point: fx.Node, readers: Sequence[fx.Node]
) -> tuple[fx.Node, fx.Node | None]:
    """What a pair for these readers stands on, and around what: x and z where `point` is x - z and all biases allow it.

    Then the readers read x, with biases that go with it; else they and the point are as they were.
    """
    z = BinaryCall(point).right if point.target is aten.sub.Tensor else None
    if not isinstance(z, fx.Node) or not all(may_shift(program, reader, point, z) for reader in readers):
        return point, None
    x = BinaryCall(point).left
    for reader in readers:
        move_bias(program, reader, -program.tensor(str(z.target)), "around")
        reader.update_arg(0, x)
    return x, z


def may_shift(program: Program, product: fx.Node, point: fx.Node, z: fx.Node) -> bool:
    """Does this product read the point, with a constant weight, a number of z for each input, and a bias of its own?"""
    values = program.constant(z)
    if values is None or product.target not in LINEARS or product.args[0] is not point:
        return False
    call, weight = WeightedCall(product), _weight(program, product)
    bias = program.constant(call.bias)
    if bias is None or weight is None:
        return False
    if product.target is aten.linear.default:
        return tuple(values.shape) == (weight.shape[1],)
    return not call.pads and tuple(values.shape) == tuple(weight.shape[1:]) == (
        values.numel(),
        1,
        1,
    )  # padding is not shifted


def move_bias(program: Program, product: fx.Node, z: Tensor, suffix: str) -> None:
    """Add to the bias what a constant input z adds to the output."""
    bias, weight = affine.bias(program, product), _weight(program, product)
    assert bias is not None
    assert weight is not None
    affine.set_constant(
        program, product, "bias", bias + affine.response(weight.to(bias.dtype), z.to(bias.dtype)), suffix
    )


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
        return value(WeightedCall(product).weight)
    except LookupError:
        return None
