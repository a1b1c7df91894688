"""Read and rescale the weight and bias of a linear, through a mask where it has one; tensors are replaced, never written to."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from vitgraph.ir import call_arguments
from vitgraph.ir.calls import MaskCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.operator_classes import LINEARS
from vitgraph.ir.program import Program

TIED = "other linears read its weight too, and factors of its own would store it once more for each"


def has_constant_weight(linear: fx.Node) -> bool:
    """A linear (no convolution) whose weight is a constant, masked or not, and whose bias is one or none."""
    return linear.target is aten.linear.default and is_constant(linear)


def is_constant(product: fx.Node) -> bool:
    """A linear or a convolution whose weight is a constant, masked or not, and whose bias is one or none."""
    if product.target not in LINEARS:
        return False
    call = WeightedCall(product)
    mask = MaskCall.of(call.weight)
    plain = call.weight if mask is None else mask.weight
    return plain.op == "get_attr" and (call.bias is None or call.bias.op == "get_attr")


def channel_axis(product: fx.Node) -> int:
    """Where the channels of what a product reads and outputs lie: last of a linear's, ahead of a convolution's rows and columns."""
    return -1 if product.target is aten.linear.default else -3


def along_channels(product: fx.Node, values: Tensor) -> Tensor:
    """A number for each channel, `[C]`, in a shape that broadcasts to what a product reads or outputs."""
    return values if channel_axis(product) == -1 else values.reshape(-1, 1, 1)


def is_tied(program: Program, linear: fx.Node) -> bool:
    """Whether another linear reads the same weight, which then can't take a factor that is this one's alone."""
    name = weight_of(linear).target
    return sum(weight_of(node).target == name for node in program.calls(*LINEARS)) > 1


def weight(program: Program, linear: fx.Node) -> Tensor:
    """What is multiplied, `[N, K]`: the weight, masked where a mask stands."""
    values = program.tensor(str(weight_of(linear).target)).detach()
    mask = MaskCall.of(WeightedCall(linear).weight)
    return values if mask is None else values * program.tensor(str(mask.keep.target))


def bias(program: Program, linear: fx.Node) -> Tensor | None:
    """The bias, `[N]`, or None."""
    found = program.constant(WeightedCall(linear).bias)
    return None if found is None else found.detach()


def response(weight: Tensor, z: Tensor) -> Tensor:
    """What a constant input z, `[K]`, adds to the output, `[N]`; summed in float64, so that it is exact to the last bit."""
    return (weight.flatten(1).double() @ z.flatten().double()).to(weight.dtype)


def scale_weight(program: Program, linear: fx.Node, factor: Tensor, suffix: str) -> None:
    """Multiply the weight by a factor that broadcasts to `[N, K]`; a mask stays as it is, and true."""
    weight = WeightedCall(linear).weight
    reader = weight if MaskCall.views(weight) else linear
    values = program.tensor(str(weight_of(linear).target)).detach() * factor
    set_constant(program, reader, "weight", values, suffix)


def set_constant(program: Program, reader: fx.Node, argument: str, values: Tensor, suffix: str) -> None:
    """Let a call read `values`, in the type of the constant that is its argument of this name, in place of that."""
    old = call_arguments.argument(reader, argument)
    values = values.to(program.tensor(str(old.target)).dtype)
    name = f"{str(old.target).removesuffix(f'_{suffix}')}_{suffix}"
    trainable = isinstance(program.tensor(str(old.target)), torch.nn.Parameter)
    call_arguments.set_argument(reader, argument, program.constant_node(reader, name, values, trainable))
