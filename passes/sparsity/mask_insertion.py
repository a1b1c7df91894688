"""Whether a linear can take a mask, and how it gets one."""

from __future__ import annotations

from torch import Tensor, fx

from vitgraph.ir import dialect
from vitgraph.ir.calls import MaskCall, WeightedCall
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.program import Program


def is_masked(linear: fx.Node) -> bool:
    """Whether a mask stands between weight and linear."""
    return MaskCall.views(WeightedCall(linear).weight)


def mask_refusal(linear: fx.Node) -> str | None:
    """Why a linear can't take a mask, or None."""
    if is_masked(linear):
        return "it has a mask already"
    if WeightedCall(linear).weight is not weight_of(linear):
        return "its weight is computed or quantized; a mask goes on the weight itself, ahead of quantize"
    return None


def insert_mask(program: Program, linear: fx.Node, keep: Tensor, values: Tensor | None = None) -> None:
    """Put the mask between weight and linear, and `values` in the weight's place where there are some."""
    call, weight = WeightedCall(linear), weight_of(linear)
    plain = call.weight
    if values is not None:
        plain = program.constant_node(linear, f"{weight.target}_updated", values, trainable=True)
    constant = program.constant_node(linear, f"{weight.target}_keep", keep)
    call.weight = program.insert(linear, dialect.mask, plain, constant)
