"""Which N:M pattern the zeros of a weight have, that came so: after training with ASP, say."""

from __future__ import annotations

from torch import Tensor

from vitgraph.ir.packing import Packing, find_packing
from vitgraph.targets.target import Target

_BITS = 16
"""A pattern counts that saves bytes in FP16."""
_MOST = 0.5
"""Of the weights, that an N:M pattern keeps which somebody trained for. Tiles that went can look like a looser one."""


def existing_pattern(weight: Tensor, target: Target | None = None) -> Packing | None:
    """The pattern of a weight `[out, in, …]`, groups along dimension 1; None for one that is dense, or lacks rows and columns only.

    Of several the tightest that the target multiplies, or else the tightest that there is.
    """
    keep = weight != 0
    if bool(keep.all()) or _lacks_channels_only(keep):
        return None
    known = () if target is None or target.sparse is None else target.sparse.patterns
    runs = sorted((Packing(n, m) for n, m in known if n < m), key=lambda each: each.kept)
    found = find_packing(keep.movedim(1, -1), _BITS)
    candidates = [*runs, *([] if found is None else [found])]
    return next((each for each in candidates if each.kept <= _MOST and each.holds(keep)), None)


def _lacks_channels_only(keep: Tensor) -> bool:
    """Whether the zeros are whole rows and columns, as of units that were pruned."""
    rows, columns = keep.flatten(1).any(1), keep.transpose(0, 1).flatten(1).any(1)
    return bool(keep[rows][:, columns].all())
