"""Which weights `nm-mask` keeps, and what they become: one function for each score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from vitgraph.analysis.sites import LinearSite
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import Packing
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.sparsity.input_moments import Moments
from vitgraph.passes.sparsity.layerwise import Choose, MaskedWeight
from vitgraph.passes.sparsity.nm_selection import damped, refit, share_lost, sweep
from vitgraph.passes.sparsity.weight_fisher import weight_fisher
from vitgraph.runtime.checkpoint import Checkpoint


def chooser(
    program: Program,
    sites: Sequence[LinearSite],
    pattern: Packing,
    score: str,
    fitted: bool,
    percdamp: float,
    context: Context,
) -> Choose:
    """The function that chooses for each linear, by `score`; the `fitted` least squares of what it chose."""
    by_loss = _by_loss(program, sites, pattern, percdamp, context) if score == "cap" else {}

    def choose(linear: fx.Node, moments: Moments) -> MaskedWeight:
        weight = program.tensor(str(weight_of(linear).target)).detach().double()
        gram = moments.now
        hessian = damped(gram, percdamp)
        if score == "sparsegpt":
            values, keep = (each[0] for each in sweep(weight[None], hessian[None], pattern))
        elif score == "cap":
            values, keep = by_loss[linear][0].double(), by_loss[linear][1]
        else:
            norms = gram.diagonal().sqrt() if score == "wanda" else torch.ones(())
            keep = nm_keep(weight.abs() * norms, pattern)
            values = weight * keep
        if fitted:
            values = refit(keep, hessian, weight @ hessian)
        return MaskedWeight(values.float(), keep, share_lost(weight, values, gram))

    return choose


def _by_loss(
    program: Program, sites: Sequence[LinearSite], pattern: Packing, percdamp: float, context: Context
) -> dict[fx.Node, tuple[Tensor, Tensor]]:
    """New weights and which stay, by the Fisher information of the dense model's loss: a sweep in every block."""
    checkpoint = Checkpoint.of(context.scratch, program, f"cap {pattern} {percdamp}", context.images)
    numbers = {node: number for number, node in enumerate(program.calls())}
    found = dict[fx.Node, tuple[Tensor, Tensor]]()
    for site in sites:
        part = checkpoint.read(numbers[site.node])
        if part is not None:
            found[site.node] = part["values"], part["keep"]
    missing = [site for site in sites if site.node not in found]
    for site, blocks in weight_fisher(program, missing, pattern.width, context.images, context.progress):
        weight = program.tensor(str(weight_of(site.node).target)).detach()
        values, keep = found[site.node] = _sweep_blocks(weight, blocks, pattern, percdamp)
        checkpoint.write(numbers[site.node], {"values": values, "keep": keep})
    return found


def _sweep_blocks(weight: Tensor, blocks: Tensor, pattern: Packing, percdamp: float) -> tuple[Tensor, Tensor]:
    """New weights and which stay `[out, K]`, for `blocks` `[out, K / width, width, width]`; rows of one block come together."""
    by_block = weight.reshape(len(weight), -1, blocks.shape[-1]).transpose(0, 1)
    hessian = damped(blocks.transpose(0, 1).flatten(0, 1).double(), percdamp)
    swept = sweep(by_block.flatten(0, 1).unsqueeze(1), hessian, pattern)
    values, keep = (each.view(by_block.shape).transpose(0, 1).reshape(weight.shape) for each in swept)
    return values.float(), keep
