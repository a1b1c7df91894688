"""Which weights `nm-mask` keeps, and what they become: one function for each score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from vitgraph.contract import Context
from vitgraph.packing import Packing
from vitgraph.passes._layers import Choice, Choose
from vitgraph.passes._nm import damped, nm_keep, refit, share_lost, sweep
from vitgraph.passes._weight_fisher import weight_fisher
from vitgraph.program import Program
from vitgraph.sites import LinearSite, weight_of


def chooser(
    program: Program,
    sites: Sequence[LinearSite],
    pattern: Packing,
    score: str,
    fitted: bool,
    damp: float,
    context: Context,
) -> Choose:
    """The function that chooses for each linear, by `score`; the `fitted` least squares of what it chose."""
    by_loss = _by_loss(program, sites, pattern, damp, context) if score == "cap" else {}

    def choose(linear: fx.Node, gram: Tensor) -> Choice:
        weight = program.tensor(str(weight_of(linear).target)).detach().double()
        hessian = damped(gram, damp)
        if score == "sparsegpt":
            values, keep = (each[0] for each in sweep(weight[None], hessian[None], pattern))
        elif score == "cap":
            values, keep = by_loss[linear]
        else:
            norms = gram.diagonal().sqrt() if score == "wanda" else torch.ones(())
            keep = nm_keep(weight.abs() * norms, pattern)
            values = weight * keep
        if fitted:
            values = refit(keep, hessian, weight @ hessian)
        return Choice(values.float(), keep, share_lost(weight, values, gram))

    return choose


def _by_loss(
    program: Program, sites: Sequence[LinearSite], pattern: Packing, damp: float, context: Context
) -> dict[fx.Node, tuple[Tensor, Tensor]]:
    """New weights and which stay, by the Fisher information of the dense model's loss: a sweep in every block."""
    assert context.calibration is not None
    found = dict[fx.Node, tuple[Tensor, Tensor]]()
    width = pattern.m * pattern.together
    for site, blocks in weight_fisher(program, sites, width, context.calibration, context.progress):
        weight = program.tensor(str(weight_of(site.node).target)).detach()
        rows = weight.reshape(-1, 1, blocks.shape[-1])
        values, keep = sweep(rows, damped(blocks.flatten(0, 1).double(), damp), pattern)
        found[site.node] = values.view_as(weight).float().double(), keep.view_as(weight)
    return found
