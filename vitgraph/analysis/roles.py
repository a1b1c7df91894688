"""What a linear is for, read off the data flow and not off names.

What feeds an attention's q, k and v is `qkv` (or `q`, `k`, `v`), what reads its output is `proj`, what feeds an activation
is `fc1` and what reads it `fc2`, what ends in the output is `head`, what reads the image is `patch-embed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx

from vitgraph.ir import dialect
from vitgraph.ir.call_arguments import name_of
from vitgraph.ir.calls import ConvCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import data_of
from vitgraph.ir.operator_classes import ACTIVATIONS, LAYOUT, NORMS, SCALES

ROLES = (
    "qkv", "q", "k", "v", "proj", "fc1", "fc2", "merge", "patch-embed", "head", "pointwise", "depthwise", "grouped", "conv", "other",
)  # fmt: skip
BLOCK_ROLES = ("qkv", "q", "k", "v", "proj", "fc1", "fc2", "merge")
"""The linears of the transformer blocks: what the papers sparsify and quantize."""
BRANCH_ENDS = ("proj", "fc2", "merge")
"""The linears that a residual branch ends in: what sparse INT8 kernels must output in INT8."""


def role_of(node: fx.Node, shape: tuple[int, ...]) -> str:
    """The role of a linear or a convolution whose weight has this shape."""
    return _conv_role(node, shape) or _role(node)


def _conv_role(node: fx.Node, shape: tuple[int, ...]) -> str | None:
    """The role of a convolution; None for a linear."""
    conv = ConvCall.of(node)
    if conv is None:
        return None
    reads_input = any(other.op == "placeholder" for other in _upstream(conv.data))
    if reads_input and list(shape[2:]) == _pair(conv.stride):
        return "patch-embed"
    if conv.groups == shape[0] and shape[1] == 1:
        return "depthwise"
    if conv.groups != 1:
        return "grouped"
    return "pointwise" if shape[2:] == (1, 1) else "conv"


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value) * (2 if len(value) == 1 else 1)


def _role(node: fx.Node) -> str:
    """What a linear is for, by what reads its result and what it reads."""
    feeds = set[str]()
    for user, name in _downstream(node):
        if user.target is dialect.attention and name in ("q", "k", "v"):
            feeds.add(name)
        elif user.target is aten.matmul.default:
            feeds.add("v" if name == "other" else "q")
        elif user.op == "output":
            feeds.add("head")
        elif user.target in ACTIVATIONS:
            feeds.add("fc1")
        elif user.target is aten.softmax.int:
            return "other"  # mixes the heads of an attention
    sources = list(_upstream(node.args[0]))
    if any(source.target is aten.softmax.int for source in sources):
        return "other"
    projections = feeds & set("qkv")
    if projections:
        return projections.pop() if len(projections) == 1 else "qkv"
    if "head" in feeds:
        return "head"
    if any(source.target in (dialect.attention, aten.matmul.default) for source in sources):
        return "proj"
    if any(source.target in ACTIVATIONS for source in sources):
        return "fc2"
    if "fc1" in feeds:
        return "fc1"
    if any(source.op == "placeholder" for source in sources):
        return "patch-embed"
    return "merge" if _is_merge(node) else "other"


def _is_merge(node: fx.Node) -> bool:
    """A patch merge: it reads neighbours laid side by side (normalized or not) and has no fewer than half as many outputs."""
    source: Any = data_of(node)
    while source.target in NORMS or source.target in (aten.reshape.default, dialect.fake_quantize, aten.to.dtype):
        source = source.args[0]
    gathered = source.target in (aten.cat.default, aten.permute.default)
    reads = node.args[0].meta["type"].shape[-1] if isinstance(node.args[0], fx.Node) else 0
    return gathered and node.meta["type"].shape[-1] * 2 == reads


def _downstream(node: fx.Node) -> Iterator[tuple[fx.Node, str]]:
    """The first readers of a value that do more than move or scale it, and the name of the argument that it is."""
    for user in node.users:
        name = (name_of(user, node) if user.op == "call_function" else None) or ""
        moves = user.target in LAYOUT or (user.target in SCALES and name == "self")
        if moves or user.target in NORMS or _is_affine(user):
            yield from _downstream(user)
        elif user.target is aten.mul.Tensor and all(isinstance(a, fx.Node) for a in user.args):
            yield from ((u, "") for u in user.users if u.target in ACTIVATIONS)
        else:
            yield user, name


def _is_affine(node: fx.Node) -> bool:
    """A shift or a factor by a constant tensor, such as `smooth-quant` leaves."""
    if node.target not in (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor):
        return False
    return any(isinstance(arg, fx.Node) and arg.op == "get_attr" for arg in node.args)


def _upstream(value: Any) -> Iterator[fx.Node]:
    """The producers of a value, upstream of what only moves, gates or normalizes it within a branch."""
    if not isinstance(value, fx.Node):
        return
    if value.target in LAYOUT or _is_affine(value):
        for arg in value.all_input_nodes:
            yield from _upstream(arg)
        return
    yield value
    gated = value.target is aten.mul.Tensor and len(value.all_input_nodes) == 2
    if gated or (value.target is aten.layer_norm.default and len(value.users) == 1):
        for arg in value.all_input_nodes:
            if arg.op == "call_function" and (gated or arg.target in ACTIVATIONS or arg.target in LAYOUT):
                yield from _upstream(arg)
