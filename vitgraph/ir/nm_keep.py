"""Which weights an N:M pattern keeps, by their scores."""

from __future__ import annotations

import torch
from torch import Tensor

from vitgraph.ir.packing import GATHERED, Packing


def nm_keep(scores: Tensor, pattern: Packing) -> Tensor:
    """Which weights stay: bool, the shape of `scores` `[out, in, …]`; of equal scores (none negative) the first stays.

    Along dimension 1 exactly `n` of each `m` units stay, a unit being `group_size` neighbours, which count by their sum; with
    `v` rows to a tile, `n` of the four columns of the m whose sums over these rows are largest (V:N:M, arXiv 2410.16135).
    """
    moved = scores.movedim(1, -1)
    units = moved.reshape(len(moved), -1, pattern.m, pattern.group_size).sum(-1)
    if pattern.v > 1:
        columns = units.reshape(-1, pattern.v, *units.shape[1:]).sum(1)
        units = units.masked_fill(~_largest(columns, GATHERED).repeat_interleave(pattern.v, 0), -1.0)
    keep = _largest(units, pattern.n).repeat_interleave(pattern.group_size, -1)
    return keep.reshape(moved.shape).movedim(-1, 1).contiguous()


def _largest(scores: Tensor, count: int) -> Tensor:
    """Which are the `count` largest of the last dimension: bool, the shape of `scores`; of equal ones the first."""
    order = scores.argsort(dim=-1, descending=True, stable=True)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order[..., :count], True)
