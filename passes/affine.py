"""Read and rescale the weight and bias of a linear, through a mask where it has one; tensors are replaced, never written to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir import dialect
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.program import Program

aten = torch.ops.aten


def has_constant_weight(linear: fx.Node) -> bool:
    """A linear (no convolution) whose weight is a constant, masked or not, and whose bias is one or none."""
    if linear.target is not aten.linear.default:
        return False
    weight, bias = linear.args[1], linear.args[2] if len(linear.args) > 2 else None
    plain: Any = weight.args[0] if isinstance(weight, fx.Node) and weight.target is dialect.mask else weight
    return plain.op == "get_attr" and (bias is None or (isinstance(bias, fx.Node) and bias.op == "get_attr"))


def weight(program: Program, linear: fx.Node) -> Tensor:
    """What is multiplied, `[N, K]`: the weight, masked where a mask stands."""
    values = program.tensor(str(weight_of(linear).target)).detach()
    masked: Any = linear.args[1]
    return values * program.tensor(str(masked.args[1].target)) if masked.target is dialect.mask else values


def bias(program: Program, linear: fx.Node) -> Tensor | None:
    """The bias, `[N]`, or None."""
    found = program.constant(linear.args[2]) if len(linear.args) > 2 else None
    return None if found is None else found.detach()


def response(weight: Tensor, z: Tensor) -> Tensor:
    """What a constant input z, `[K]`, adds to the output, `[N]`; summed in float64, so that it is exact to the last bit."""
    return (weight.flatten(1).double() @ z.flatten().double()).to(weight.dtype)


def scale_weight(program: Program, linear: fx.Node, factor: Tensor, suffix: str) -> None:
    """Multiply the weight by a factor that broadcasts to `[N, K]`; a mask stays as it is, and true."""
    old = weight_of(linear)
    masked: Any = linear.args[1]
    reader = masked if masked.target is dialect.mask else linear
    values = program.tensor(str(old.target)).detach() * factor
    reader.update_arg(reader.args.index(old), _constant(program, reader, old, values, suffix))


def set_constant(program: Program, node: fx.Node, position: int, values: Tensor, suffix: str) -> None:
    """Let a node read `values` in place of the constant that stands at one of its arguments."""
    old: Any = node.args[position]
    node.update_arg(position, _constant(program, node, old, values, suffix))


def _constant(program: Program, reader: fx.Node, old: fx.Node, values: Tensor, suffix: str) -> fx.Node:
    name = f"{str(old.target).removesuffix(f'_{suffix}')}_{suffix}"
    trainable = isinstance(program.tensor(str(old.target)), torch.nn.Parameter)
    return program.constant_node(reader, name, values, trainable)
