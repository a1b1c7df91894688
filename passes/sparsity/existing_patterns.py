"""Which N:M pattern the zeros of a weight have, that came so: after training with ASP, say."""

from __future__ import annotations

from torch import Tensor

from vitgraph.ir.packing import Packing, find_packing
from vitgraph.targets.target import Target

_BITS = 16
"""A pattern counts that saves bytes in FP16."""


def existing_pattern(weight: Tensor, target: Target | None = None) -> Packing | None:
    """The pattern of a weight `[out, in, …]`, groups along dimension 1; None for one that is dense, or zero throughout.

    Of several the tightest that the target multiplies, or else the tightest that there is.
    """
    keep = weight != 0
    if bool(keep.all()) or not bool(keep.any()):
        return None
    known = () if target is None or target.sparse is None else target.sparse.patterns
    runs = sorted((Packing(n, m) for n, m in known if n < m), key=lambda each: each.kept)
    found = find_packing(keep.movedim(1, -1), _BITS)
    candidates = [*runs, *([] if found is None else [found])]
    return next((each for each in candidates if each.holds(keep)), None)
