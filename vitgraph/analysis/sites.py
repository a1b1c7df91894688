"""Sites: the places in a canonical graph where a decision is taken, found once and shared by all passes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import fx

from vitgraph.analysis.attention import AttentionSite, find_attentions
from vitgraph.analysis.roles import role_of
from vitgraph.errors import InputError
from vitgraph.ir.calls import BinaryCall, ConvCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import LINEARS, NORMS
from vitgraph.ir.program import Program


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

    @property
    def also_named(self) -> str | None:
        """`pointwise` of a 1×1 convolution, whatever its role."""
        call = ConvCall.of(self.node)
        if call is None or call.groups != 1 or call.weight.meta["type"].static[2:] != (1, 1):
            return None
        return "pointwise"


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
    """Of every kind, fused or not."""
    norms: tuple[NormSite, ...]
    residuals: tuple[ResidualSite, ...]

    @property
    def fused_attentions(self) -> tuple[AttentionSite, ...]:
        """Those that are one `vitgraph.attention`."""
        return tuple(site for site in self.attentions if site.is_fused)


def find_sites(program: Program) -> Sites:
    """Find every site of a canonical program, in graph order."""
    if program.form != "canonical":
        raise InputError(f"{program.name}: sites are found in canonical graphs; run the pass canonicalize first")
    return Sites(
        tuple(_linear(program, node) for node in program.calls(*LINEARS)),
        find_attentions(program),
        tuple(NormSite(n, path_of(n)) for n in program.calls(*NORMS)),
        tuple(ResidualSite(n, path_of(n)) for n in program.calls(aten.add.Tensor) if _is_residual(n)),
    )


def _linear(program: Program, node: fx.Node) -> LinearSite:
    shape: tuple[int, ...] = WeightedCall(node).weight.meta["type"].static
    n, k = shape[0], _product(shape[1:])
    return LinearSite(node, path_of(node), role_of(node, shape), k, n)


def _product(sizes: Iterable[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def _is_residual(node: fx.Node) -> bool:
    """An addition of two computed values of the same shape, one of which is used elsewhere too."""
    left, right = BinaryCall(node).left, BinaryCall(node).right
    if not isinstance(right, fx.Node) or not left.op == right.op == "call_function":
        return False
    return left.meta["type"] == right.meta["type"] and max(len(left.users), len(right.users)) > 1
