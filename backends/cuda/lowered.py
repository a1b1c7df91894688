"""A plan and its weights together: what a lowering gives, a folder holds and a runner takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vitgraph.backends.cuda.plan import Plan


@dataclass(frozen=True)
class Lowered:
    """A plan and the tensors of its weights by name, on the CPU."""

    plan: Plan
    tensors: Mapping[str, Tensor]
