"""What a linear is for, read off the data flow and not off names.

What feeds an attention's q, k and v is `qkv` (or `q`, `k`, `v`), what reads its output is `proj`, what feeds an activation
is `fc1` and what reads it `fc2`, what ends in the output is `head`, what reads the image is `patch-embed`. Any other linear
between the first and the last is `linear`: a shortcut between stages, a decoder's projection. A 1×1 convolution does at each
position what a linear does at each token, and has a linear's role; one of a pooled map (squeeze and excitation) is `squeeze`.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from vitgraph.analysis.branches import (
    GATED,
    downstream,
    ends_in_output,
    feeds_positions,
    feeds_weights,
    is_affine,
    is_depthwise,
    origins,
    predicts,
    upstream,
)
from vitgraph.ir import dialect
from vitgraph.ir.calls import ConvCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import data_of
from vitgraph.ir.operator_classes import ACTIVATIONS, LINEARS, NORMS

ROLES = (
    "qkv", "q", "k", "v", "proj", "fc1", "fc2", "merge", "linear", "patch-embed", "head", "head-mix", "positions",
    "weights", "squeeze", "pointwise", "depthwise", "grouped", "conv",
)  # fmt: skip
BLOCK_ROLES = ("qkv", "q", "k", "v", "proj", "fc1", "fc2", "merge", "linear")
"""The linears of the blocks and between them, 1×1 convolutions among them: what the papers sparsify and quantize."""
BRANCH_ENDS = ("proj", "fc2", "merge", "linear")
"""The linears that a residual branch ends in: what sparse INT8 kernels must output in INT8."""


_PASSED = (aten.reshape.default, dialect.fake_quantize, aten.to.dtype)
"""What may stand between a patch merge's linear and the neighbours laid side by side, norms and constants aside."""

_KEEPS_POSITIONS = ACTIVATIONS | NORMS | LINEARS | {dialect.fake_quantize, aten.to.dtype}
"""What may stand between a pooled map and a 1×1 convolution."""


def role_of(node: fx.Node, shape: tuple[int, ...]) -> str:
    """The role of a linear or a convolution whose weight has this shape."""
    return _conv_role(node, shape) or _role(node)


def _conv_role(node: fx.Node, shape: tuple[int, ...]) -> str | None:
    """The role of a convolution; None for a linear and for what computes one at each position of a map."""
    conv = ConvCall.of(node)
    if conv is None:
        return None
    reads_input = any(other.op == "placeholder" for other in upstream(conv.data))
    if reads_input and list(shape[2:]) == _pair(conv.stride):
        return "patch-embed"
    if is_depthwise(node):
        return "depthwise"
    if conv.groups != 1:
        return "grouped"
    if shape[2:] != (1, 1):
        return "conv"
    if _pair(conv.stride) != [1, 1] or conv.pads:
        return "pointwise"
    return "squeeze" if _is_pooled(conv.data) else None


def _is_pooled(value: Any) -> bool:
    """Is a map one position, to which it was pooled, maybe ahead of another 1×1 convolution?"""
    while isinstance(value, fx.Node) and (value.target in _KEEPS_POSITIONS or is_affine(value)):
        value = value.args[0]
    pooled = isinstance(value, fx.Node) and value.target in (aten.mean.dim, aten.adaptive_avg_pool2d.default)
    return pooled and tuple(value.meta["type"].shape[-2:]) == (1, 1)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value) * (2 if len(value) == 1 else 1)


def _role(node: fx.Node) -> str:
    """What a linear is for, by what reads its result and what it reads."""
    feeds, sources = _feeds(node), list(upstream(node.args[0]))
    if _mixes_heads(node, feeds, sources):
        return "head-mix"
    projections = feeds & set("qkv")
    if projections:
        return projections.pop() if len(projections) == 1 else "qkv"
    if "head" in feeds:
        return "head"
    if feeds_positions(node):
        return "positions"
    if feeds_weights(node):
        return "head" if ends_in_output(node) else "weights"
    if any(source.target in (dialect.attention, aten.matmul.default) for source in sources):
        return "proj"
    if any(source.target in ACTIVATIONS for source in sources):
        return "head" if predicts(node) else "fc2"
    if "fc1" in feeds:
        return "fc1"
    if any(source.op == "placeholder" for source in sources):
        return "patch-embed"
    return "merge" if _is_merge(node) else _role_in_body(node)


def _feeds(node: fx.Node) -> set[str]:
    """What reads a linear's result: q, k, v of an attention, an activation or a gate (fc1), the output (head), a softmax."""
    feeds = set[str]()
    for user, name in downstream(node):
        if user.target is dialect.attention and name in ("q", "k", "v"):
            feeds.add(name)
        elif user.target is aten.matmul.default:
            feeds.add("v" if name == "other" else "q")
        elif user.op == "output":
            feeds.add("head")
        elif user.target in ACTIVATIONS or name == GATED:
            feeds.add("fc1")
        elif user.target is aten.softmax.int:
            feeds.add("softmax")
    return feeds


def _mixes_heads(node: fx.Node, feeds: set[str], sources: list[fx.Node]) -> bool:
    """Does a linear read the scores of an attention, before their softmax or after it?"""
    if any(source.target is aten.softmax.int and _is_of_scores(source) for source in sources):
        return True
    return "softmax" in feeds and any(
        source.target is aten.matmul.default for source in origins(node.all_input_nodes[0])
    )


def _is_of_scores(softmax: fx.Node) -> bool:
    """Are a product's scores upstream of a softmax, a layer that mixes heads aside?"""
    found = list(origins(softmax.all_input_nodes[0]))
    found += [source for each in found if each.target in LINEARS for source in origins(each.all_input_nodes[0])]
    return any(each.target is aten.matmul.default for each in found)


def _role_in_body(node: fx.Node) -> str:
    """The role of a linear that neither an attention nor an activation stands next to."""
    sources = set(origins(node.args[0])) if isinstance(node.args[0], fx.Node) else set[fx.Node]()
    if ends_in_output(node):
        return "head"
    if any(source.target in (dialect.attention, aten.matmul.default) for source in sources):
        return "proj"
    return "patch-embed" if sources and all(source.op == "placeholder" for source in sources) else "linear"


def _is_merge(node: fx.Node) -> bool:
    """A patch merge: it reads neighbours laid side by side (normalized or not) and has no fewer than half as many outputs."""
    source: Any = data_of(node)
    while source.target in NORMS or source.target in _PASSED or is_affine(source):
        source = source.args[0]
    gathered = node.target is aten.linear.default and source.target in (aten.cat.default, aten.permute.default)
    reads = node.args[0].meta["type"].shape[-1] if isinstance(node.args[0], fx.Node) else 0
    return gathered and node.meta["type"].shape[-1] * 2 == reads
