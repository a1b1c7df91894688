"""What kept weights become under a mask of blocks: the exact least squares to what a linear output before.

For each row w, kept weights v minimize Σ (v x̂ - w x)², x̂ what the linear reads in the pruned model. What x is differs:

- where units went, what the linear read in the dense model (He et al., arXiv 1707.06168, eq. 4): on x̂, where they are missing, w would
  output what lacks them, and nothing would be left to make good;
- where tiles went, x̂ again, as `nm-mask` has it (SparseGPT): each linear makes good what its own mask costs. Asked to make good what all
  those ahead of it cost, qkv and fc1 would be fitted to a drift of the residual stream that they can't see. Measured at 90 %
  of a ViT-Tiny: 74.2 % of ImageNet so, 70.0 % with x.

Rows whose masks are alike share one linear system, so that tiles take one for each band of rows and not one for each row
as N:M does (`nm_selection.refit`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import affine
from vitgraph.passes.sparsity.input_moments import Moments
from vitgraph.passes.sparsity.layerwise import MaskedWeight, change_in_order
from vitgraph.passes.sparsity.nm_selection import damped

_LINALG: Any = torch.linalg  # untyped


def fit_in_order(
    program: Program, keeps: Mapping[fx.Node, Tensor], percdamp: float, options: str, context: Context, *, units: bool
) -> dict[fx.Node, MaskedWeight]:
    """Each linear's new weight by the inputs that those already changed give it; a linear that images don't reach is left out.

    `keeps` are in graph order: which weights stay, `[out, K]`; of `units` or of tiles. `options` name the work in the context's scratch folder.
    """

    def choose(linear: fx.Node, moments: Moments) -> MaskedWeight:
        weight, keep = affine.weight(program, linear).double(), keeps[linear]
        fitted = fit(weight, keep, moments, percdamp)
        return MaskedWeight(fitted.float(), keep, output_lost(weight, fitted, moments))

    return change_in_order(program, list(keeps), context, options, choose, beside=units)


def fit(weight: Tensor, keep: Tensor, moments: Moments, percdamp: float) -> Tensor:
    """The weights `[out, K]` on `keep` that minimize Σ |v x̂ - w x|² + λ|v - w|² for each row, in float64.

    λ is `percdamp` times the mean square of x̂. A row that keeps everything makes good what others lost.
    """
    hessian, fitted, alike = damped(moments.now, percdamp), weight * keep, dict[bytes, list[int]]()
    missing = weight @ (moments.cross - moments.now) + (weight - fitted) @ hessian
    for row, pattern in enumerate(keep):
        alike.setdefault(pattern.numpy().tobytes(), []).append(row)
    for rows in alike.values():
        at = keep[rows[0]].nonzero()[:, 0]
        added: Tensor = _LINALG.solve(hessian[at][:, at], missing[rows][:, at].T)
        fitted[torch.tensor(rows).unsqueeze(1), at] += added.T
    return fitted


def output_lost(weight: Tensor, changed: Tensor, moments: Moments) -> Tensor:
    """Σ |v x̂ - w x|² over Σ |w x|², 0 where that is 0: what the output, without its bias, lost."""
    norm = ((weight @ moments.dense) * weight).sum()
    error = norm - 2 * ((weight @ moments.cross) * changed).sum() + ((changed @ moments.now) * changed).sum()
    return error.clamp(min=0) / norm.clamp(min=torch.finfo(norm.dtype).tiny)
