"""Operators that torch itself writes with others: shorthands, which its own decompositions take apart at capture.

The rest of vitgraph never sees them. An operator is listed where torch's decomposition says the same with operators of the
dialect, or with ones that `canonicalize` has a rule for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from vitgraph.ir.operator_schema import opname, schema_of

SHORTHANDS = frozenset(
    {
        # other names
        "absolute", "clip", "concat", "concatenate", "divide", "float_power", "multiply", "negative", "subtract", "true_divide",
        # tensors side by side, and moved about
        "atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_tensors", "channel_shuffle", "column_stack", "diag", "diag_embed", "diff",
        "dstack", "fliplr", "flipud", "hstack", "meshgrid", "rot90", "take_along_dim", "vstack",
        # sums and products
        "addr", "chain_matmul", "cosine_similarity", "count_nonzero", "cross", "kron", "linalg_cross",
        "linalg_matrix_norm", "linalg_multi_dot", "linalg_vecdot", "logaddexp", "nanmean", "nansum", "pairwise_distance", "trace", "vdot",
        # functions of one element
        "heaviside", "isclose", "logit", "mse_loss", "sinc", "smooth_l1_loss",
    }
)  # fmt: skip
"""Names of operators, with all their overloads."""


def shorthands_in(graph: fx.Graph) -> dict[Any, Callable[..., Any]]:
    """torch's decompositions of the shorthands, as one is often written with another; none where a graph calls none."""
    if not any(schema_of(node.target) and opname(node.target) in SHORTHANDS for node in graph.nodes):
        return {}
    known = torch.export.default_decompositions()
    packets = [getattr(torch.ops.aten, name) for name in sorted(SHORTHANDS)]
    overloads = [getattr(packet, name) for packet in packets for name in packet.overloads()]
    return {overload: known[overload] for overload in overloads if overload in known}
