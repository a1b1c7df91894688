"""Fold a LayerScale, a learned factor for each channel of a branch, into the linear or convolution that produces the branch.

Before:
    linear: f32[1, 16, 8] = aten.linear.default(x, w, b)
    mul: f32[1, 16, 8] = aten.mul.Tensor(linear, gamma)         # gamma: f32[8]
    add: f32[1, 16, 8] = aten.add.Tensor(skip, mul)

After:
    linear: f32[1, 16, 8] = aten.linear.default(x, w_scaled, b_scaled)
    add: f32[1, 16, 8] = aten.add.Tensor(skip, linear)

gamma (W x + b) = (diag(gamma) W) x + gamma b, row by row (LayerScale: Touvron et al. 2021, arXiv 2103.17239, eq. 4). The
branch may be moved in between, as ConvNeXt permutes it. A mask stays as it is: a row is scaled as a whole.

Factors as models are initialized with, 1e-6 to 1e-5, would make weights that FP16 holds as subnormal numbers or as zero:
they are refused. Trained ones are larger: in DINOv2 ViT-S/14 their median is 0.15 or more in each layer, and folding them
leaves FP16 weights with the error they had, 2e-4 of their norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx

from vitgraph.analysis.channel_flow import before_moves, moved
from vitgraph.ir.calls import BinaryCall, LinearCall, MaskCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes import affine

_HALF_ERROR = 1e-3
"""The largest error, relative to the norm, that rounding the scaled weight to FP16 may make; 2e-4 is usual."""


@dataclass(frozen=True)
class FoldLayerScale(Pass):
    """No multiplication by a constant for each channel downstream of a linear or convolution."""

    name: ClassVar[str] = "fold-layer-scale"
    effect: ClassVar[Effect] = Effect.REORDERS

    def run(self, program: Program, context: Context) -> None:
        """Fold each factor into its producer, or say why not."""
        for product in program.calls(aten.mul.Tensor):
            operands = _operands(product)
            if operands is None:
                continue
            value, gamma = operands
            producer = before_moves(value)
            factors = _why_not(producer, value, gamma) or _checked_factors(program, producer, value, gamma)
            if isinstance(factors, str):
                context.refuse(path_of(product), factors)
            elif not context.take(self.name, path_of(product)):
                return
            else:
                _scale_outputs(program, producer, factors)
                product.replace_all_uses_with(value)
                program.graph.erase_node(product)


def _operands(product: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """(branch, factor) of a product that may be a LayerScale; None for a gate, an encoded position or a number."""
    call = BinaryCall(product)
    for value, factor in ((call.left, call.right), (call.right, call.left)):
        if not isinstance(value, fx.Node) or not isinstance(factor, fx.Node) or value.op != "call_function":
            continue
        if not isinstance(factor.meta["type"], TensorType):
            continue  # a size, where the batch is not known
        along = [size for size in factor.meta["type"].shape if size != 1]
        if len(along) > 1 or value.meta["type"] != product.meta["type"]:
            continue
        if factor.op == "get_attr" or WeightedCall.views(before_moves(value)):
            return value, factor
    return None


def _why_not(producer: fx.Node, value: fx.Node, gamma: fx.Node) -> str | None:
    """Why the factor can't go into the producer of the branch, as the graph stands; None where it can."""
    layer = WeightedCall.of(producer)
    if layer is None:
        return "no linear or convolution produces what it scales"
    if gamma.op != "get_attr":
        return "its factor is computed"
    if _is_read_elsewhere(producer, value):
        return "what it scales is used elsewhere too"
    mask = MaskCall.of(layer.weight)
    weight = layer.weight if mask is None else mask.weight
    if weight.op != "get_attr" or (layer.bias is not None and layer.bias.op != "get_attr"):
        return "the weight or bias of the layer before it is computed"
    return "the masked weight before it is used elsewhere too" if mask and len(mask.node.users) > 1 else None


def _is_read_elsewhere(producer: fx.Node, value: fx.Node) -> bool:
    """Whether anything on the way from the producer to the scaled value has a second consumer."""
    node = value
    while node is not producer and len(node.users) == 1:
        (node,) = node.all_input_nodes[:1]
    return len(node.users) > 1


def _checked_factors(program: Program, producer: fx.Node, value: fx.Node, gamma: fx.Node) -> Tensor | str:
    """The factor of each output channel of the producer, `[N]`; or why the weight can't hold them."""
    factors = _factors(program, producer, value, gamma)
    if factors is None:
        return "its factors differ within a channel"
    scaled = affine.weight(program, producer) * _beside_weight(producer, factors)
    error = (scaled.half().to(scaled.dtype) - scaled).square().sum().sqrt()
    return (
        factors if bool(error <= _HALF_ERROR * scaled.square().sum().sqrt()) else "FP16 can't hold the scaled weights"
    )


def _beside_weight(producer: fx.Node, factors: Tensor) -> Tensor:
    rank = WeightedCall(producer).weight.meta["type"].rank
    return factors.reshape([-1] + [1] * (rank - 1))


def _factors(program: Program, producer: fx.Node, value: fx.Node, gamma: fx.Node) -> Tensor | None:
    """What each output channel of the producer is multiplied by, `[N]`; None where there is not one number for each."""
    shape = producer.meta["type"].at(1)
    channel = len(shape) - 1 if LinearCall.views(producer) else 1
    numbers = torch.arange(shape[channel]).reshape([-1 if dim == channel else 1 for dim in range(len(shape))])
    places = moved(program, producer, numbers.expand(shape), value)
    wanted = program.tensor(str(gamma.target)).detach().expand(places.shape)
    factors = torch.ones(shape[channel], dtype=wanted.dtype)
    factors[places] = wanted
    return factors if torch.equal(factors[places], wanted) else None


def _scale_outputs(program: Program, producer: fx.Node, factors: Tensor) -> None:
    """The producer computes its outputs times `factors`, `[N]`."""
    bias = affine.bias(program, producer)
    affine.scale_weight(program, producer, _beside_weight(producer, factors), "scaled")
    if bias is not None:
        affine.set_constant(program, producer, "bias", bias * factors, "scaled")
