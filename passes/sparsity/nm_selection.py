"""Choosing and refitting weights under an N:M pattern: which stay, and what those that stay become.

Everything is one quadratic: dropping or changing weights of a row w costs (v - w) H (v - w)ᵀ, where H is what is known of the
row's inputs (Σ x xᵀ: the squared error of the linear's output) or of the loss (its Fisher information). `sweep` chooses
and updates in one go along K, as SparseGPT does (Frantar and Alistarh, arXiv 2301.00774); `refit` is the exact minimum for
a choice already made. All in float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import Packing

_ROOM = 1 << 24
"""Numbers that a batch of linear systems may hold at once: 128 MiB."""


def damped(hessian: Tensor, share: float) -> Tensor:
    """`[…, K, K]` plus `share` of its mean diagonal on the diagonal, which makes it positive definite."""
    mean = hessian.diagonal(dim1=-2, dim2=-1).mean(-1)
    mean = torch.where(mean > 0, mean, 1.0)[..., None, None]
    return hessian + share * mean * torch.eye(hessian.shape[-1], dtype=hessian.dtype)


def sweep(weight: Tensor, hessian: Tensor, pattern: Packing) -> tuple[Tensor, Tensor]:
    """New weights and which stay, both `[batch, out, K]`, for `hessian` `[batch, K, K]`, positive definite.

    Column by column from the left: a dropped weight's error is made good by the columns to its right (optimal brain
    surgeon). The choice for a group is made when the sweep reaches it, among w² / [H⁻¹]ᵢᵢ of the columns that are left.
    """
    upper = _cholesky(torch.cholesky_inverse(_cholesky(hessian))).transpose(-2, -1)
    values, width = weight.double().clone(), pattern.width
    keep = torch.ones_like(values, dtype=torch.bool)
    for start in range(0, values.shape[-1], width):
        group = slice(start, start + width)
        scores = (values[:, :, group] / upper.diagonal(dim1=-2, dim2=-1)[:, None, group]).square()
        keep[:, :, group] = nm_keep(scores.flatten(0, 1), pattern).view_as(scores)
        for column in range(start, start + width):
            dropped = values[:, :, column].masked_fill(keep[:, :, column], 0.0)
            error = dropped / upper[:, None, column, column]
            values[:, :, column] -= dropped
            values[:, :, column + 1 :] -= error.unsqueeze(-1) * upper[:, None, column, column + 1 :]
    return values, keep


def refit(keep: Tensor, gram: Tensor, target: Tensor) -> Tensor:
    """The weights `[out, K]` on `keep` that minimize |v x - y|² over all inputs, each row for itself.

    `gram` is Σ x xᵀ `[K, K]`, positive definite, and `target` Σ y xᵀ `[out, K]`. Every row keeps equally many weights.
    """
    rows, count = keep.shape[0], int(keep[0].sum())
    where = keep.nonzero()[:, 1].reshape(rows, count)
    fitted, chunk = torch.zeros(keep.shape, dtype=torch.float64), max(1, _ROOM // count**2)
    for some in range(0, rows, chunk):
        part = slice(some, some + chunk)
        at = where[part]
        factor = _cholesky(gram[at.unsqueeze(2), at.unsqueeze(1)])
        solved = torch.cholesky_solve(target[part].gather(1, at).unsqueeze(2), factor).squeeze(2)
        fitted[part] = fitted[part].scatter(1, at, solved)
    return fitted


def _cholesky(matrix: Tensor) -> Tensor:
    """The lower factor."""
    untyped: Any = torch.linalg
    lower: Tensor = untyped.cholesky(matrix)
    return lower


def share_lost(weight: Tensor, changed: Tensor, gram: Tensor) -> Tensor:
    """Squared error of a linear's output over its squared norm, on the inputs of `gram` `[K, K]`; 0 where that is 0."""
    error, norm = (((each @ gram) * each).sum() for each in (changed - weight, weight))
    return error / norm.clamp(min=torch.finfo(norm.dtype).tiny)
