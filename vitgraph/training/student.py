"""A program as it trains: its graph with scales that learn, masks that may be chosen anew, branches that may be skipped.

Before:
    masked = vitgraph.mask.default(w, keep)
    wq = vitgraph.fake_quantize.default(masked, w_scale, 0)
    added = aten.add.Tensor(stream, branch)
    out = vitgraph.attention.default(q, k, v, bias, scale)

After:
    masked = masked_straight_through(w, keep, decay)                     # while masks are chosen anew; else as before
    learnt = aten.mul.Tensor(w_scale, aten.exp.default(w_scale_log))     # scales that learn; the logarithm starts at 0
    wq = vitgraph.fake_quantize.default(masked, learnt, 0)
    added = aten.add.Tensor(stream, stochastic_depth(branch, 0.1))       # with drop_path
    out = attend(q, k, v, bias, scale)                                    # an attention whose probabilities are not rounded

Batch norms are in training mode. Weights keep their names, and one that two places read stays one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from vitgraph.ir import dialect
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.program import Program
from vitgraph.training.feature_sites import depth_of_names
from vitgraph.training.settings import Compression, Optimization
from vitgraph.training.trainable_graph import (
    attend_fused,
    learn_scales,
    masked_straight_through,
    masks_of,
    observe_scales,
    skip_branches,
    train_batch_norms,
)

REACH = 4.0
"""No scale learns to be over e^4 times, or under e^-4 times, what calibration made it."""


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
        self._masks = list(masks_of(work))
        skip_branches(work, drop_path)
        train_batch_norms(work)
        attend_fused(work)
        self._logarithms = learn_scales(work) if settings.scales == "learnt" else {}
        if settings.scales == "observed":
            observe_scales(work)
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
        torch.compiler.reset()  # what torch.compile made of the graph before

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
