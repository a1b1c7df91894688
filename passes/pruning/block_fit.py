"""What kept weights become under a mask of blocks: the exact least squares to what the dense linear outputs.

Rows whose masks are alike share one linear system, so that tiles take one for each band of rows and not one for each row
as N:M does (`_nm.refit`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import affine
from vitgraph.passes.sparsity.layerwise import MaskedWeight, change_in_order
from vitgraph.passes.sparsity.nm_selection import damped, share_lost

_LINALG: Any = torch.linalg  # untyped


def fit_in_order(
    program: Program, keeps: Mapping[fx.Node, Tensor], percdamp: float, options: str, context: Context
) -> dict[fx.Node, MaskedWeight]:
    """Each linear's new weight by the inputs that those already changed give it; a linear that images don't reach is left out.

    `keeps` are in graph order: which weights stay, `[out, K]`. `options` name the work in the context's scratch folder.
    """

    def choose(linear: fx.Node, gram: Tensor) -> MaskedWeight:
        weight, keep = affine.weight(program, linear).double(), keeps[linear]
        fitted = fit(weight, keep, damped(gram, percdamp))
        return MaskedWeight(fitted.float(), keep, share_lost(weight, fitted, gram))

    return change_in_order(program, list(keeps), context, options, choose)


def fit(weight: Tensor, keep: Tensor, gram: Tensor) -> Tensor:
    """The weights `[out, K]` on `keep` that minimize (v - w) H (v - w)ᵀ for each row, H = `gram` positive definite, in float64."""
    fitted, alike = weight * keep, dict[bytes, list[int]]()
    for row, pattern in enumerate(keep):
        alike.setdefault(pattern.numpy().tobytes(), []).append(row)
    for rows in alike.values():
        at = keep[rows[0]].nonzero()[:, 0]
        if 0 < len(at) < keep.shape[1]:  # a row that keeps everything is its own best fit
            solved: Tensor = _LINALG.solve(gram[at][:, at], gram[at] @ weight[rows].T)
            fitted[torch.tensor(rows).unsqueeze(1), at] = solved.T
    return fitted
