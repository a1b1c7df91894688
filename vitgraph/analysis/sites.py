"""Sites: the places in a canonical graph where a decision is taken, found once and shared by all passes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import fx

from vitgraph.analysis.roles import role_of
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import NORMS
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType


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
        tuple(NormSite(n, path_of(n)) for n in program.calls(*NORMS)),
        tuple(ResidualSite(n, path_of(n)) for n in program.calls(aten.add.Tensor) if _is_residual(n)),
    )


def _linear(program: Program, node: fx.Node) -> LinearSite:
    weight: Any = node.args[1]
    shape: tuple[int, ...] = weight.meta["type"].static
    n, k = shape[0], _product(shape[1:])
    return LinearSite(node, path_of(node), role_of(node, shape), k, n)


def _product(sizes: Iterable[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


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
