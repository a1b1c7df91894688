"""Sites: the places in a canonical graph where a decision is taken, found once and shared by all passes.

A linear site has a role, which is read off the data flow and not off names: what feeds an attention's q, k and v is
`qkv` (or `q`, `k`, `v`), what reads its output is `proj`, what feeds an activation is `fc1` and what reads it `fc2`,
what ends in the output is `head`, what reads the image is `patch-embed`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar

import torch
from torch import fx

from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType

aten = torch.ops.aten

ROLES = (
    "qkv", "q", "k", "v", "proj", "fc1", "fc2", "merge", "patch-embed", "head", "pointwise", "depthwise", "grouped", "conv", "other",
)  # fmt: skip
BLOCK_ROLES = ("qkv", "q", "k", "v", "proj", "fc1", "fc2", "merge")
"""The linears of the transformer blocks: what the papers sparsify and quantize."""
BRANCH_ENDS = ("proj", "fc2", "merge")
"""The linears that a residual branch ends in: what sparse INT8 kernels must put out in INT8."""

LAYOUT = frozenset(
    {
        aten.reshape.default, aten.permute.default, aten.slice.Tensor, aten.select.int, aten.roll.default,
        aten.pad.default, aten.expand.default, aten.to.dtype, aten.cat.default, dialect.fake_quantize,
    }
)  # fmt: skip
"""Operators that move values without changing them (rounding aside)."""
ACTIVATIONS = frozenset(
    {
        aten.gelu.default, aten.relu.default, aten.silu.default, aten.hardswish.default, aten.clamp.default,
        aten.tanh.default, aten.sigmoid.default, aten.mish.default, aten.leaky_relu.default, aten.elu.default,
        aten.softplus.default,
    }
)  # fmt: skip


@dataclass(frozen=True)
class LinearSite:
    """A product with a weight: `aten.linear`, or a convolution. K is what is summed over, N the outputs."""

    node: fx.Node
    path: str
    role: str
    k: int
    n: int

    @property
    def is_conv(self) -> bool:
        """Whether the weight is a convolution's, `[out, in/groups, kh, kw]`."""
        return self.node.target is aten.conv2d.default


@dataclass(frozen=True)
class AttentionSite:
    """An attention: `softmax` (fused or by hand), `linear` (no softmax between the two products) or `other`."""

    node: fx.Node
    path: str
    kind: str
    heads: int
    head_dim: int
    value_dim: int
    tokens: int
    keys: int
    bias: bool


@dataclass(frozen=True)
class NormSite:
    """A normalization with its learned scale."""

    node: fx.Node
    path: str


@dataclass(frozen=True)
class ResidualSite:
    """The addition of a branch to the residual stream."""

    node: fx.Node
    path: str


@dataclass(frozen=True)
class Sites:
    """Everything found in one graph."""

    linears: tuple[LinearSite, ...]
    attentions: tuple[AttentionSite, ...]
    norms: tuple[NormSite, ...]
    residuals: tuple[ResidualSite, ...]


def find_sites(program: Program) -> Sites:
    """Find every site of a canonical program, in graph order."""
    if program.form != "canonical":
        raise InputError(f"{program.name}: sites are found in canonical graphs; run the pass canonicalize first")
    return Sites(
        tuple(_linear(program, node) for node in program.calls(aten.linear.default, aten.conv2d.default)),
        tuple(_attention(node) for node in program.calls(dialect.attention)),
        tuple(NormSite(n, path_of(n)) for n in program.calls(*_NORMS)),
        tuple(ResidualSite(n, path_of(n)) for n in program.calls(aten.add.Tensor) if _is_residual(n)),
    )


_NORMS = (aten.layer_norm.default, aten.batch_norm.default, aten.group_norm.default, aten.rms_norm.default)


def path_of(node: fx.Node) -> str:
    """The path of the module a node came from; `model` for the model itself."""
    return node.meta.get("path") or "model"


def weight_of(node: fx.Node) -> fx.Node:
    """The `get_attr` behind a linear's weight, through masks and quantizers."""
    weight: Any = node.args[1]
    while weight.op == "call_function":
        weight = weight.args[0]
    return weight  # type: ignore[no-any-return]


def data_of(node: fx.Node) -> fx.Node:
    """What is multiplied: a linear's first argument, behind its quantizer and casts."""
    source: Any = node.args[0]
    while source.target in (dialect.fake_quantize, aten.to.dtype):
        source = source.args[0]
    return source  # type: ignore[no-any-return]


def behind_layout(node: fx.Node) -> fx.Node:
    """What a value was before it was moved about: reshaped, permuted, cut or cast."""
    while node.target in LAYOUT and node.target is not aten.cat.default:
        node = node.args[0]  # type: ignore[assignment]
    return node


def _linear(program: Program, node: fx.Node) -> LinearSite:
    weight: Any = node.args[1]
    shape: tuple[int, ...] = weight.meta["type"].static
    n, k = shape[0], _product(shape[1:])
    return LinearSite(node, path_of(node), _conv_role(node, shape) or _role(node), k, n)


def _product(sizes: Iterable[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def _conv_role(node: fx.Node, shape: tuple[int, ...]) -> str | None:
    """The role of a convolution; None for a linear."""
    if node.target is not aten.conv2d.default:
        return None
    reads_input = any(other.op == "placeholder" for other in _upstream(node.args[0]))
    if reads_input and list(shape[2:]) == _pair(node.args[3]):
        return "patch-embed"
    if node.args[6] == shape[0] and shape[1] == 1:
        return "depthwise"
    if node.args[6] != 1:
        return "grouped"
    return "pointwise" if shape[2:] == (1, 1) else "conv"


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value) * (2 if len(value) == 1 else 1)


def _role(node: fx.Node) -> str:
    """What a linear is for, by what reads its result and what it reads."""
    feeds = set[str]()
    for user, place in _downstream(node):
        if user.target is dialect.attention and place < 3:
            feeds.add("qkv"[place])
        elif user.target is aten.matmul.default:
            feeds.add("qv"[place] if place < 2 else "q")
        elif user.op == "output":
            feeds.add("head")
        elif user.target in ACTIVATIONS:
            feeds.add("fc1")
    projections = feeds & set("qkv")
    if projections:
        return projections.pop() if len(projections) == 1 else "qkv"
    if "head" in feeds:
        return "head"
    sources = list(_upstream(node.args[0]))
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
    while source.target in _NORMS or source.target in (aten.reshape.default, dialect.fake_quantize, aten.to.dtype):
        source = source.args[0]
    gathered = source.target in (aten.cat.default, aten.permute.default)
    reads = node.args[0].meta["type"].shape[-1] if isinstance(node.args[0], fx.Node) else 0
    return gathered and node.meta["type"].shape[-1] * 2 == reads


def _downstream(node: fx.Node) -> Iterator[tuple[fx.Node, int]]:
    """The first readers of a value that do more than move or scale it, and at which argument."""
    for user in node.users:
        place = next((i for i, arg in enumerate(user.args) if arg is node), 99)
        moves = user.target in LAYOUT or (user.target in _SCALES and place == 0)
        if moves or user.target in _NORMS or _is_affine(user):
            yield from _downstream(user)
        elif user.target is aten.mul.Tensor and all(isinstance(a, fx.Node) for a in user.args):
            yield from ((u, 99) for u in user.users if u.target in ACTIVATIONS)
        else:
            yield user, place


_SCALES = (aten.mul.Tensor, aten.div.Tensor)


def _is_affine(node: fx.Node) -> bool:
    """A shift or a factor by a constant tensor, such as `smooth` leaves."""
    if node.target not in (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor):
        return False
    return any(isinstance(arg, fx.Node) and arg.op == "get_attr" for arg in node.args)


def _upstream(value: Any) -> Iterator[fx.Node]:
    """The producers of a value, behind what only moves, gates or normalizes it within a branch."""
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


def _is_residual(node: fx.Node) -> bool:
    """An addition of two computed values of the same shape, one of which is used elsewhere too."""
    both = [arg for arg in node.args[:2] if isinstance(arg, fx.Node) and arg.op == "call_function"]
    return len(both) == 2 and both[0].meta["type"] == both[1].meta["type"] and any(len(a.users) > 1 for a in both)


def _attention(node: fx.Node) -> AttentionSite:
    q, k, v = (arg.meta["type"] for arg in node.args[:3] if isinstance(arg, fx.Node))
    assert all(isinstance(t, TensorType) for t in (q, k, v))
    heads = q.shape[-3] if q.rank > 2 and isinstance(q.shape[-3], int) else 1
    return AttentionSite(
        node,
        path_of(node),
        "softmax",
        heads,
        q.shape[-1],
        v.shape[-1],
        q.shape[-2],
        k.shape[-2],
        node.args[3] is not None,
    )


class Selectable(Protocol):
    """What a selector can tell apart."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def role(self) -> str: ...  # noqa: D102
    @property
    def k(self) -> int: ...  # noqa: D102
    @property
    def n(self) -> int: ...  # noqa: D102


Site = TypeVar("Site", bound=Selectable)


def select(
    sites: Sequence[Site], only: Sequence[str] = (), skip: Sequence[str] = (), within: Sequence[str] | None = None
) -> list[Site]:
    """The sites that `only` names (all, or those of the roles `within`, where it is empty) and `skip` does not.

    A selector is a role (`fc1`), a glob over module paths (`blocks.3.*`), both (`blocks.3.*:fc1`, where one module has
    several linears) or a bound on the shape (`k>=64`, `n<1000`).
    One that matches nothing raises `InputError` with near misses.
    """
    for selector in [*only, *skip]:
        if not any(_matches(site, selector) for site in sites):
            known = [*dict.fromkeys(site.role for site in sites), *(site.path for site in sites)]
            close = get_close_matches(selector, known, 4, 0.4)
            hint = f"near: {', '.join(close)}" if close else f"roles here: {', '.join(sorted({s.role for s in sites}))}"
            raise InputError(f"the selector {selector!r} matches no site of this model; {hint}")
    chosen = [
        s for s in sites if (any(_matches(s, each) for each in only) if only else within is None or s.role in within)
    ]
    return [site for site in chosen if not any(_matches(site, selector) for selector in skip)]


_BOUND = re.compile(r"([kn])(>=|<=|>|<|=)(\d+)")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    "=": lambda a, b: a == b,
}


def _matches(site: Selectable, selector: str) -> bool:
    bound = _BOUND.fullmatch(selector)
    if bound is not None:
        return _COMPARE[bound[2]](site.k if bound[1] == "k" else site.n, int(bound[3]))
    path, _, role = selector.partition(":")
    return site.role == selector or (fnmatch.fnmatchcase(site.path, path) and role in ("", site.role))
