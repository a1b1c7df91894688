"""How far a value that ONNX Runtime computed is from the program's, and how far it may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from vitgraph.ir.calls import AttentionCall
from vitgraph.ir.dialect import attention
from vitgraph.ir.tensor_type import TensorType
from vitgraph.pass_manager.numerics import REORDERS_LIMIT
from vitgraph.runtime.backend import Violation

ROUNDED_LIMIT = 2e-2
"""The largest relative L2 distance of an attention that rounds its probabilities to INT8 on the way."""
OTHER_LIMIT = 1e-3
"""The largest share of whole numbers and truth values that differ: a few may follow from a tie."""
PLANNED = "model.onnx computes what the program does"


@dataclass(frozen=True)
class Compared:
    """One value of the file beside the program's."""

    node: fx.Node
    distance: float
    limit: float

    @classmethod
    def of(cls, node: fx.Node, wanted: Tensor, found: Tensor) -> Compared:
        """What `node` gives in the program, and in the file."""
        return cls(node, _distance(wanted, found), _limit(node, wanted))

    @property
    def share(self) -> float:
        """How much of its limit it is off."""
        return self.distance / self.limit

    def violation(self) -> Violation:
        """Of a value that is further off than it may be."""
        return Violation(
            site=place_of(self.node),
            planned=PLANNED,
            found=f"{self.distance:.2g} off by relative L2, over {self.limit:g}",
            why="its ONNX form is wrong, or ONNX Runtime's kernel is; please report it with program/graph.txt",
        )


def place_of(node: fx.Node) -> str:
    """Where a call is, for a person."""
    return f"{node.meta.get('path') or 'the model itself'} ({node.target})"


def _distance(wanted: Tensor, found: Tensor) -> float:
    """Relative L2; for whole numbers and truth values the share that differs. Infinite where shapes or NaN and infinities differ."""
    if wanted.shape != found.shape:
        return math.inf
    if not wanted.is_floating_point():
        return float((wanted != found).double().mean()) if wanted.numel() else 0.0
    a, b = wanted.double(), found.double()
    finite = a.isfinite()
    if not torch.allclose(a[~finite], b[~finite], equal_nan=True) or not b[finite].isfinite().all():
        return math.inf
    a, b = a[finite], b[finite]
    size, distance = float(a.square().sum().sqrt()), float((a - b).square().sum().sqrt())
    return distance / size if size else distance


def _limit(node: fx.Node, value: Tensor) -> float:
    """By the coarsest type that the call reads or gives, as for passes that reorder sums."""
    kinds = [each.meta["type"] for each in node.all_input_nodes]
    types = [value.dtype, *(kind.dtype for kind in kinds if isinstance(kind, TensorType))]
    limits = [REORDERS_LIMIT[each] for each in types if each in REORDERS_LIMIT]
    if node.target is attention and AttentionCall(node).is_rounded:
        limits.append(ROUNDED_LIMIT)
    return max(limits, default=OTHER_LIMIT)
