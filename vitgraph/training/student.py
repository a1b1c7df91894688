"""A program as it trains: its graph with scales that learn, masks that may be chosen anew, branches that may be skipped.

Before:
    masked = vitgraph.mask.default(w, keep)
    wq = vitgraph.fake_quantize.default(masked, w_scale, 0)
    added = aten.add.Tensor(stream, branch)

After:
    masked = masked_straight_through(w, keep, decay)                     # while masks are chosen anew; else as before
    learnt = aten.mul.Tensor(w_scale, aten.exp.default(w_scale_log))     # scales that learn; the logarithm starts at 0
    wq = vitgraph.fake_quantize.default(masked, learnt, 0)
    added = aten.add.Tensor(stream, stochastic_depth(branch, 0.1))       # with drop_path

Batch norms train as such. Weights keep their names, and one that two places read stays one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from vitgraph.analysis.sites import find_sites
from vitgraph.ir import dialect
from vitgraph.ir.call_arguments import argument, set_argument
from vitgraph.ir.calls import BatchNormCall, BinaryCall, MaskCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.formats import number_format
from vitgraph.ir.mask_patterns import linears
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.operator_classes import PAIRS
from vitgraph.ir.packing import Packing
from vitgraph.ir.program import Program
from vitgraph.training.feature_sites import depth_of_names
from vitgraph.training.settings import Compression, Optimization

LOGARITHM = "_log"
"""What follows a scale's name in that of the logarithm of its factor."""
REACH = 4.0
"""No scale learns to be over e^4 times, or under e^-4 times, what calibration made it."""
SMALLEST = 1e-10
"""Under which no scale gets."""
MOMENTUM = 0.01
"""By how much an activation's scale follows what a batch shows, where scales are observed."""


@dataclass(frozen=True)
class _Mask:
    """A mask of the graph: its call, the names of what it reads, and the pattern that it keeps, where that is known."""

    call: MaskCall
    weight: str
    keep: str
    pattern: Packing | None


class Student(nn.Module):
    """The module that trains: images `[B, C, H, W]` to the model's output and the values of `taps`, nodes of the program."""

    def __init__(
        self, program: Program, settings: Compression, taps: Sequence[fx.Node] = (), drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.program, self.settings = program, settings
        work = program.copy()
        work.own_tensors()
        twins = dict(zip(program.graph.nodes, work.graph.nodes, strict=True))
        self._masks = list(_masks(work))
        _skip_branches(work, drop_path)
        _train_batch_norms(work)
        self._logarithms = _learn_scales(work) if settings.scales == "learnt" else {}
        if settings.scales == "observed":
            _observe_scales(work)
        work.output.args = ((work.output.args[0], [twins[each] for each in taps]),)
        work.graph.lint()
        work.module.recompile()
        self._work, self.graph_module, self._rechooses = work, work.module, False

    def forward(self, images: Tensor) -> tuple[Any, list[Tensor]]:
        """The output, and the taps' values in their order."""
        found: tuple[Any, list[Tensor]] = self.graph_module(images)
        return found

    def parameter_groups(self, settings: Optimization) -> list[dict[str, Any]]:
        """For an optimizer: matrices, which decay; vectors, which do not; logarithms of scales, at a rate of their own.

        With `layer_decay` the rate falls from block to block towards the input.
        """
        logarithms = set(self._logarithms.values())
        depths = depth_of_names(self.program)
        groups = dict[tuple[bool, float], list[nn.Parameter]]()
        for name, parameter in self.graph_module.named_parameters():
            if name in logarithms:
                key = (False, self.settings.scale_lr / settings.lr)
            else:
                key = (parameter.dim() > 1, (settings.layer_decay or 1.0) ** depths(name))
            if parameter.requires_grad:
                groups.setdefault(key, []).append(parameter)
        return [
            {"params": found, "weight_decay": settings.weight_decay if decays else 0.0, "lr_scale": share}
            for (decays, share), found in groups.items()
        ]

    def rechoose_masks(self, on: bool) -> None:
        """Whether what N:M masks drop gets a gradient, so that `choose_masks` may choose it."""
        if on == self._rechooses:
            return
        self._rechooses = on
        for mask in self._masks:
            if mask.pattern is not None:
                node, decay = mask.call.node, self.settings.rechoose_decay
                node.args = (mask.call.weight, mask.call.keep, *([decay] if on else []))
                node.target = masked_straight_through if on else dialect.mask
        self.graph_module.recompile()

    @torch.no_grad()
    def choose_masks(self) -> None:
        """Choose every N:M mask anew, by the magnitude of the weights as they are."""
        for mask in self._masks:
            if mask.pattern is not None:
                self._work.tensor(mask.keep).copy_(nm_keep(self._work.tensor(mask.weight).abs(), mask.pattern))

    @torch.no_grad()
    def after_step(self) -> None:
        """What holds after every step: weights under fixed masks are zero, and scales are within their reach."""
        for mask in self._masks:
            if not (self._rechooses and mask.pattern is not None):
                weight = self._work.tensor(mask.weight)
                weight.mul_(self._work.tensor(mask.keep))
        for name in self._logarithms.values():
            self._work.tensor(name).clamp_(-REACH, REACH)

    @torch.no_grad()
    def export(self) -> Program:
        """The program as it is now, in tensors of its own on the CPU: masked weights are zero, scales are what was learnt."""
        program = self.program.copy()
        program.own_tensors()
        for name, tensor in program.tensors().items():
            tensor.copy_(self._work.tensor(name))
        for name, logarithm in self._logarithms.items():
            program.tensor(name).mul_(self._work.tensor(logarithm).exp().to("cpu"))
        for mask in self._masks:
            program.tensor(mask.weight).mul_(program.tensor(mask.keep))
        return program


class _StraightThrough(torch.autograd.Function):
    """SR-STE: the gradient of a masked weight goes to all of it, and what is masked decays (Zhou et al., arXiv 2102.04010, eq. 9)."""

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


def _masks(program: Program) -> Iterator[_Mask]:
    """Every mask, with the pattern of the linear that reads it; a mask that several read is told once."""
    seen = set[fx.Node]()
    for linear, place in linears(program).items():
        value: Any = WeightedCall(linear).weight
        while value.op == "call_function" and not MaskCall.views(value):
            value = value.args[0]
        call = MaskCall.of(value)
        if call is not None and value not in seen:
            seen.add(value)
            yield _Mask(call, str(call.weight.target), str(call.keep.target), program.masks.get(place))


def _learn_scales(program: Program) -> dict[str, str]:
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


def _observe_scales(program: Program) -> None:
    """Let the scales of pairs follow what they round; those inside attentions stay."""
    for node in program.calls(dialect.fake_quantize):
        x, scale = argument(node, "x"), argument(node, "scale")
        grid, axis = number_format(argument(node, "format")), argument(node, "axis")
        momentum = 1.0 if axis is not None or x.op == "get_attr" else MOMENTUM
        with program.graph.inserting_before(node):
            seen = program.graph.call_function(observe_range, (x, scale, axis, grid.high, momentum))
        set_argument(node, "scale", seen)


def _train_batch_norms(program: Program) -> None:
    for node in program.calls(*BatchNormCall.operators):
        set_argument(node, "training", True)


def _skip_branches(program: Program, rate: float) -> None:
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
