"""Fold a batch norm into the convolution or linear layer before it, or after it.

Before:
    conv2d: f32[1, 16, 8, 8] = aten.conv2d.default(x, w, None, [1, 1], [1, 1], [1, 1], 1)
    batch_norm: f32[1, 16, 8, 8] = aten.batch_norm.default(conv2d, gamma, beta, mean, var, False, 0.1, 1e-05, False)

After:
    conv2d: f32[1, 16, 8, 8] = aten.conv2d.default(x, w_1, bias, [1, 1], [1, 1], [1, 1], 1)

At inference a batch norm is `scale * x + shift` for each channel, with scale = gamma / sqrt(var + eps) and
shift = beta - mean * scale (Jacob et al. 2018, eq. 14). Downstream of a batch norm only a layer without padding can absorb it:
the padding's zeros are added after the shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from vitgraph.ir.calls import BatchNormCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """No batch norm beside a convolution or linear layer."""

    name: ClassVar[str] = "fold-batch-norm"
    effect: ClassVar[Effect] = Effect.REORDERS

    def run(self, program: Program, context: Context) -> None:
        """Fold each batch norm into its producer or, failing that, its consumer; else say why not."""
        for norm in program.calls(aten.batch_norm.default):
            path = str(norm.meta.get("path", ""))
            before, after = _layer_before(program, norm), _layer_after(program, norm)
            if isinstance(before, str) and isinstance(after, str):
                context.refuse(path, f"{before}; {after}")
                continue
            if not context.take(self.name, path):
                return
            if isinstance(before, fx.Node):
                _fold_into_outputs(program, before, norm)
            elif isinstance(after, fx.Node):
                _fold_into_inputs(program, norm, after)
            norm.replace_all_uses_with(_input(norm))
            _reshape_once(_input(norm), before)
            program.graph.erase_node(norm)


def _reshape_once(node: fx.Node, layer: fx.Node | str) -> None:
    """Where the output of a layer was reshaped for the norm only, its users reshape the output itself."""
    if not isinstance(layer, fx.Node) or node is layer:
        return
    for user in list(node.users):
        if user.target is aten.reshape.default and user.meta["type"] == layer.meta["type"]:
            user.replace_all_uses_with(layer)
        elif user.target is aten.reshape.default:
            user.replace_input_with(node, layer)


def _input(node: fx.Node) -> fx.Node:
    first = node.args[0]
    assert isinstance(first, fx.Node)
    return first


def _layer_before(program: Program, norm: fx.Node) -> fx.Node | str:
    """The layer whose output channels are those of the norm, or why there is none."""
    layer = _input(norm)
    while layer.target is aten.reshape.default and _keeps_channels(layer) and len(layer.users) == 1:
        layer = _input(layer)
    if not WeightedCall.views(layer):
        return "no convolution or linear layer before it"
    if layer.target is aten.linear.default and norm.meta["type"].rank != 2:
        return "the linear layer before it has its channels last"
    if layer.target is not aten.linear.default and layer is not _input(norm):
        return "the convolution before it is reshaped first"
    if len(layer.users) > 1:
        return "the output of the layer before it is used elsewhere too"
    return layer if _all_constant(program, norm, layer) else "weights that are computed"


def _layer_after(program: Program, norm: fx.Node) -> fx.Node | str:
    """The one layer that reads the norm and has no padding, or why there is none."""
    if len(norm.users) != 1:
        return "its output is used more than once"
    layer = next(iter(norm.users))
    if not WeightedCall.views(layer) or layer.args[0] is not norm:
        return "no convolution or linear layer consumes it"
    if layer.target is aten.linear.default and norm.meta["type"].rank != 2:
        return "the linear layer that consumes it has its channels last"
    if WeightedCall(layer).pads:
        return "the convolution that consumes it pads"
    return layer if _all_constant(program, norm, layer) else "weights that are computed"


def _keeps_channels(node: fx.Node) -> bool:
    """Does a reshape leave the last dimension, a linear layer's channels, as it is?"""
    return bool(node.meta["type"].shape[-1:] == _input(node).meta["type"].shape[-1:])


def _all_constant(program: Program, norm: fx.Node, layer: fx.Node) -> bool:
    call = WeightedCall(layer)
    tensors = [*BatchNormCall(norm).constants, call.weight, call.bias]
    return all(each is None or program.constant(each) is not None for each in tensors)


def _scale_and_shift(program: Program, norm: fx.Node) -> tuple[Tensor, Tensor]:
    """What the norm does to each channel, in double precision."""
    call = BatchNormCall(norm)
    weight, bias, mean, var = (_double(program, each) for each in call.constants)
    assert mean is not None
    assert var is not None
    scale = torch.rsqrt(var + call.eps)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias


def _double(program: Program, node: Any) -> Tensor | None:
    tensor = program.constant(node)
    return None if tensor is None else tensor.detach().double()


def _fold_into_outputs(program: Program, layer: fx.Node, norm: fx.Node) -> None:
    """`scale (W x + b) + shift = (scale W) x + (scale b + shift)`."""
    scale, shift = _scale_and_shift(program, norm)
    call = WeightedCall(layer)
    weight, bias = _double(program, call.weight), _double(program, call.bias)
    assert weight is not None
    weight = weight * scale.reshape([-1] + [1] * (weight.dim() - 1))
    _set_weights(program, layer, weight, shift if bias is None else shift + scale * bias)


def _fold_into_inputs(program: Program, norm: fx.Node, layer: fx.Node) -> None:
    """`W (scale x + shift) + b = (W scale) x + (W shift + b)`."""
    scale, shift = _scale_and_shift(program, norm)
    call = WeightedCall(layer)
    weight, bias, groups = _double(program, call.weight), _double(program, call.bias), call.groups
    assert weight is not None
    outputs, inputs = weight.shape[:2]
    by_output = (torch.arange(outputs) // (outputs // groups))[:, None] * inputs + torch.arange(inputs)
    taps = [1] * (weight.dim() - 2)
    moved = (weight * shift[by_output].reshape([outputs, inputs, *taps])).flatten(1).sum(1)
    weight = weight * scale[by_output].reshape([outputs, inputs, *taps])
    _set_weights(program, layer, weight, moved if bias is None else moved + bias)


def _set_weights(program: Program, layer: fx.Node, weight: Tensor, bias: Tensor) -> None:
    call = WeightedCall(layer)
    tensor = program.constant(call.weight)
    assert tensor is not None
    stem = str(call.weight.target)
    parent = stem.rpartition(".")[0]
    trained = isinstance(tensor, torch.nn.Parameter)
    call.weight = program.constant_node(layer, stem, weight.to(tensor.dtype), trained)
    call.bias = program.constant_node(layer, f"{parent}.bias".lstrip("."), bias.to(tensor.dtype), trained)
