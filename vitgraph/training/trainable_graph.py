"""The rewrites that make a program's graph one that trains: see `vitgraph.training.student` for what they make of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.nn import functional

from vitgraph.analysis.sites import find_sites
from vitgraph.ir import dialect
from vitgraph.ir.call_arguments import argument, set_argument
from vitgraph.ir.calls import AttentionCall, BatchNormCall, BinaryCall, MaskCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.formats import number_format
from vitgraph.ir.mask_patterns import linears
from vitgraph.ir.operator_classes import PAIRS
from vitgraph.ir.packing import Packing
from vitgraph.ir.program import Program

LOGARITHM = "_log"
"""What follows a scale's name in that of the logarithm of its factor."""
SMALLEST = 1e-10
"""Under which no observed scale gets."""
MOMENTUM = 0.01
"""By how much an activation's scale follows what a batch shows, where scales are observed."""


@dataclass(frozen=True)
class TrainedMask:
    """A mask of the graph: its call, the names of what it reads, and the pattern that it keeps, where that is known."""

    call: MaskCall
    weight: str
    keep: str
    pattern: Packing | None


class _StraightThrough(torch.autograd.Function):
    """SR-STE: the gradient of a masked weight goes to all of it, and what is masked decays (Zhou et al., arXiv 2102.04010)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, keep: Tensor, decay: float) -> Tensor:
        ctx.save_for_backward(weight, keep)
        ctx.decay = decay
        return weight * keep

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        weight, keep = ctx.saved_tensors
        return grads[0] + ctx.decay * (weight * ~keep), None, None


def masked_straight_through(weight: Tensor, keep: Tensor, decay: float) -> Tensor:
    """`weight * keep`, with a gradient for every weight."""
    masked: Tensor = _StraightThrough.apply(weight, keep, decay)
    return masked


def observe_range(x: Tensor, scale: Tensor, axis: int | None, high: float, momentum: float) -> Tensor:
    """Let a scale follow the largest magnitude of `x`, by `momentum`; returns it."""
    with torch.no_grad():
        sizes: Any = x.detach().abs()
        if scale.dim() > 1:  # one for each group along the axis
            amax = sizes.unflatten(axis, (scale.shape[axis or 0], -1)).amax((axis or 0) + 1)
        else:
            amax = sizes.amax() if axis is None else sizes.movedim(axis, 0).flatten(1).amax(1)
        scale.lerp_((amax.to(scale.dtype) / high).clamp(min=SMALLEST), momentum)
    return scale


def masks_of(program: Program) -> Iterator[TrainedMask]:
    """Every mask, with the pattern of the linear that reads it; a mask that several read is told once."""
    seen = set[fx.Node]()
    for linear, place in linears(program).items():
        value: Any = WeightedCall(linear).weight
        while value.op == "call_function" and not MaskCall.views(value):
            value = value.args[0]
        call = MaskCall.of(value)
        if call is not None and value not in seen:
            seen.add(value)
            yield TrainedMask(call, str(call.weight.target), str(call.keep.target), program.masks.get(place))


def learn_scales(program: Program) -> dict[str, str]:
    """Multiply each scale by the exponential of a parameter; the parameters' names by the scales'."""
    found = dict[str, str]()
    for node in _scale_nodes(program):
        name = str(node.target)
        if name not in found:
            zeros = torch.zeros_like(program.tensor(name))
            found[name] = program.add_tensor(f"{name}{LOGARITHM}", zeros, trainable=True)
        with program.graph.inserting_after(node):
            logarithm = program.graph.get_attr(found[name])
        with program.graph.inserting_after(logarithm):
            factor = program.graph.call_function(aten.exp.default, (logarithm,))
        with program.graph.inserting_after(factor):
            learnt = program.graph.call_function(aten.mul.Tensor, (node, factor))
        for user in list(node.users):
            if user is not learnt:
                user.replace_input_with(node, learnt)
    return found


def _scale_nodes(program: Program) -> list[fx.Node]:
    """The constants that something is rounded by: scales of pairs, and of attentions' probabilities."""
    read = dict[fx.Node, None]()
    for call in program.calls(*PAIRS, dialect.attention):
        name = "probability_scale" if call.target is dialect.attention else "scale"
        scale = argument(call, name)
        if isinstance(scale, fx.Node) and scale.op == "get_attr":
            read[scale] = None
    return list(read)


def observe_scales(program: Program) -> None:
    """Let the scales of pairs follow what they round; those inside attentions stay."""
    for node in program.calls(dialect.fake_quantize):
        x, scale = argument(node, "x"), argument(node, "scale")
        grid, axis = number_format(argument(node, "format")), argument(node, "axis")
        momentum = 1.0 if axis is not None or x.op == "get_attr" else MOMENTUM
        with program.graph.inserting_before(node):
            seen = program.graph.call_function(observe_range, (x, scale, axis, grid.high, momentum))
        set_argument(node, "scale", seen)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """What `vitgraph.attention` computes without rounding, by torch's fused kernels (FlashAttention, arXiv 2205.14135, where one fits).

    `q` `[…, tokens, D]`, `k` and `v` `[…, keys, D]`, `bias` broadcasts to `[…, tokens, keys]`; gives `[…, tokens, D]`.
    """
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


def attend_fused(program: Program) -> None:
    """Let attentions whose probabilities are not rounded run in torch's fused kernels."""
    for call in map(AttentionCall, program.calls(dialect.attention)):
        if not call.is_rounded:
            call.node.args, call.node.kwargs = (*call.operands, call.bias, call.scale), {}
            call.node.target = attend


def train_batch_norms(program: Program) -> None:
    """Let batch norms use the batch's own moments, and follow them."""
    for node in program.calls(*BatchNormCall.operators):
        set_argument(node, "training", True)


def skip_branches(program: Program, rate: float) -> None:
    """Leave residual branches out for some images, the last with this probability and the first with none."""
    sites = find_sites(program).residuals if rate else ()
    order = {node: position for position, node in enumerate(program.graph.nodes)}
    skip: Any = import_module("torchvision.ops").stochastic_depth  # it has no type stubs
    for place, site in enumerate(sites):
        call, share = BinaryCall(site.node), rate * place / max(1, len(sites) - 1)
        operands = (call.left, cast(fx.Node, call.right))
        branch = min(
            operands, key=lambda each: (len(each.users), -order[each])
        )  # the stream has other readers, or is older
        if share:
            with program.graph.inserting_before(site.node):
                kept = program.graph.call_function(skip, (branch, share, "row", True))
            site.node.replace_input_with(branch, kept)
