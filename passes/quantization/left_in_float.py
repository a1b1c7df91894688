"""Says so where quantizing leaves most of a model's work in floating point, as of one that is made of convolutions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import fx

from vitgraph.analysis.sites import LinearSite
from vitgraph.ir.calls import MatmulCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import PAIRS
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import LeftInFloatFinding
from vitgraph.pass_manager.pass_contract import Context, Refusal

LEFT_ALONE = {
    "head": "it ends in the output or in a choice, where no later layer makes up for rounding",
    "patch-embed": "it reads the image itself, and little of the work is there",
    "head-mix": "it mixes the few heads of an attention's scores",
    "positions": "it computes where an image is sampled",
    "weights": "a softmax makes weights of it: of sampled points, or of the distances of a box's side",
    "squeeze": "it reads one pooled position, and little of the work is there",
    "pointwise": "it strides or pads, which nothing does that stands for a linear",
    "conv": "its window is larger than 1×1, so that it stands for no linear",
    "depthwise": "it sums few products for each number it reads",
    "grouped": "INT8 grouped convolutions give an engine more layers, not fewer",
}
"""Why products of other roles than a block's stay in floating point unless they are named."""
NO_SITES: Mapping[Any, str] = {
    aten.conv1d.default: "it is a convolution along one dimension, for which no INT8 form is written",
    aten.conv_transpose2d.input: "it is a transposed convolution, for which no INT8 form is written",
}
"""Why products that are no sites stay in floating point, whoever names them."""
MANY_WEIGHTS = "it multiplies with a matrix of its own for each row or head, for which no INT8 form is written"
"""The same of matrix products whose weight has a batch, as positions relative to each row have."""
MOST = 0.5
"""A share of the multiply-accumulates from which on it is worth a word."""
_SHOWN = 3
_SKIPPED = "they were left out by skip; name fewer sites there"


def left_in_float(sites: Sequence[LinearSite], refusals: Sequence[Refusal]) -> LeftInFloatFinding | None:
    """The finding, where products with weights in floating point are most of the multiply-accumulates; else None."""
    macs = {site: _macs(site) for site in sites}
    left = {site: count for site, count in macs.items() if WeightedCall(site.node).weight.target not in PAIRS}
    total = sum(macs.values())
    if not total or sum(left.values()) <= MOST * total:
        return None
    roles = Counter[str]()
    for site, count in left.items():
        roles[site.role] += count
    shares = [f"{role} {count / total:.0%}" for role, count in roles.most_common(_SHOWN)]
    return LeftInFloatFinding(round(1 - sum(left.values()) / total, 4), ", ".join(shares), _remedy(left, refusals))


def refuse_by_role(sites: Sequence[LinearSite], chosen: Collection[LinearSite], context: Context) -> None:
    """Say of each product that nobody named why its role leaves it in floating point."""
    for site in sites:
        if site.role in LEFT_ALONE and site not in chosen:
            context.refuse(site.path, f"{LEFT_ALONE[site.role]}; only=[*] takes it too")


def refuse_others(program: Program, context: Context) -> None:
    """Say of each product with a weight that is no site why it stays in floating point."""
    for node in program.calls(*NO_SITES):
        context.refuse(path_of(node), NO_SITES[node.target])
    for node in program.calls(aten.matmul.default):
        if has_many_weights(node):
            context.refuse(path_of(node), MANY_WEIGHTS)


def has_many_weights(product: fx.Node) -> bool:
    """Is one of two matrices that are multiplied a constant?"""
    call = MatmulCall(product)
    return (call.left.op == "get_attr") != (call.right.op == "get_attr")


def _macs(site: LinearSite) -> int:
    """Multiply-accumulates for one image, or one of whatever the batch is made of."""
    outputs: int = math.prod(site.node.meta["type"].at(1))
    return site.k * outputs


def _remedy(left: Mapping[LinearSite, int], refusals: Sequence[Refusal]) -> str:
    """Why those with most of the work were left, and what quantizes them."""
    told = {refusal.site: refusal.why for refusal in refusals}
    reasons, others = Counter[str](), sorted({site.role for site in left} & {*LEFT_ALONE})
    for site, count in left.items():
        by_role = site.role in LEFT_ALONE
        reasons[f"{site.role}: {LEFT_ALONE[site.role]}" if by_role else told.get(site.path, _SKIPPED)] += count
    ((why, _),) = reasons.most_common(1)
    named = any(why == f"{role}: {LEFT_ALONE[role]}" for role in others)
    return f"{why}; quantize{{only=[*]}} takes {', '.join(others)} too" if named else why
