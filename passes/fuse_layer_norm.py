"""Recognize layer norms and RMS norms that are written out in arithmetic.

Before:
    mean: f32[1, 16, 1] = aten.mean.dim(x, [2], True)
    sub: f32[1, 16, 8] = aten.sub.Tensor(x, mean)
    pow: f32[1, 16, 8] = aten.pow.Tensor_Scalar(sub, 2)
    mean_1: f32[1, 16, 1] = aten.mean.dim(pow, [2], True)
    add: f32[1, 16, 1] = aten.add.Tensor(mean_1, 1e-05)
    sqrt: f32[1, 16, 1] = aten.sqrt.default(add)
    div: f32[1, 16, 8] = aten.div.Tensor(sub, sqrt)
    mul: f32[1, 16, 8] = aten.mul.Tensor(div, gamma)
    add_1: f32[1, 16, 8] = aten.add.Tensor(mul, beta)

After:
    layer_norm: f32[1, 16, 8] = aten.layer_norm.default(x, [8], gamma, beta, 1e-05)

The variance may be `var` with no correction, the root `rsqrt`, the dimensions any last few (Ba et al. 2016, eq. 4;
RMS norm without the mean: Zhang and Sennrich 2019, eq. 4). Over a dimension that is not last, x is permuted first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import fx

from vitgraph.ir.calls import BinaryCall, ReductionCall, VarianceCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, TensorType
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass


@dataclass(frozen=True)
class FuseLayerNorm(Pass):
    """One operator for each normalization over features."""

    name: ClassVar[str] = "fuse-layer-norm"
    effect: ClassVar[Effect] = Effect.REORDERS

    def run(self, program: Program, context: Context) -> None:
        """Find the quotient that ends a normalization, then the affine map that consumes it."""
        for node in program.calls(aten.div.Tensor, aten.mul.Tensor):
            found = _match(node)
            if found is None:
                continue
            path = str(node.meta.get("path", ""))
            if isinstance(found, str):
                context.refuse(path, found)
            elif not context.take(self.name, path):
                return
            else:
                _replace(program, node, found)


@dataclass(frozen=True)
class _Norm:
    """A normalization of `x` over `dims`, without its affine map."""

    x: fx.Node
    dims: tuple[int, ...]
    eps: float
    centred: bool


def _match(node: fx.Node) -> _Norm | str | None:
    """The normalization whose last step `node` is; a reason where it only looks like one; None for anything else."""
    parts = _quotient(node)
    if parts is None:
        return None
    top, inside = parts
    eps = BinaryCall(inside).right if inside.target is aten.add.Tensor else None
    if not isinstance(eps, int | float):
        return None
    spread = BinaryCall(inside).left
    found = _by_var(top, spread, float(eps)) or _by_mean(top, spread, float(eps))
    if isinstance(found, _Norm) and any(isinstance(found.x.meta["type"].shape[dim], Dim) for dim in found.dims):
        return "it is taken along the batch, whose size is not known"
    return found


def _quotient(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """(a, b) of `a / sqrt(b)` or `a * rsqrt(b)`."""
    root = aten.sqrt.default if node.target is aten.div.Tensor else aten.rsqrt.default
    left, right = BinaryCall(node).left, BinaryCall(node).right
    for top, bottom in ((left, right), (right, left)):
        if isinstance(top, fx.Node) and isinstance(bottom, fx.Node) and bottom.target is root:
            inner = bottom.args[0]
            return (top, inner) if isinstance(inner, fx.Node) else None
        if node.target is aten.div.Tensor:
            return None
    return None


def _by_var(top: fx.Node, spread: fx.Node, eps: float) -> _Norm | str | None:
    """`(x - mean(x)) / sqrt(var(x) + eps)`."""
    variance = VarianceCall.of(spread)
    if variance is None:
        return None
    x, dims = variance.data, tuple(variance.dims)
    if not _is_centred(top, x, dims):
        return None
    if variance.correction != 0:
        return "its variance is the unbiased one; a layer norm takes the biased one"
    return _Norm(x, dims, eps, centred=True) if variance.keeps_dims else None


def _by_mean(top: fx.Node, spread: fx.Node, eps: float) -> _Norm | None:
    """`y / sqrt(mean(y²) + eps)`: a layer norm of x where y is x less its mean, an RMS norm of y otherwise."""
    mean = _mean(spread)
    if mean is None or not _is_square(mean.data, top):
        return None
    dims = tuple(mean.dims)
    x = BinaryCall(top).left if top.target is aten.sub.Tensor else None
    if x is not None and _is_centred(top, x, dims):
        return _Norm(x, dims, eps, centred=True)
    return _Norm(top, dims, eps, centred=False)


def _mean(node: Any) -> ReductionCall | None:
    """A mean that keeps its dimensions."""
    found = ReductionCall.of(node)
    return found if found is not None and node.target is aten.mean.dim and found.keeps_dims else None


def _is_square(node: fx.Node, of: fx.Node) -> bool:
    return node.args == ((of, 2) if node.target is aten.pow.Tensor_Scalar else (of, of)) and node.target in (
        aten.pow.Tensor_Scalar,
        aten.mul.Tensor,
    )


def _is_centred(node: fx.Node, x: fx.Node, dims: tuple[int, ...]) -> bool:
    """Is it `x - mean(x)` over the same dimensions?"""
    if node.target is not aten.sub.Tensor or node.args[0] is not x:
        return False
    mean = _mean(BinaryCall(node).right)
    return mean is not None and mean.data is x and tuple(mean.dims) == dims


def _replace(program: Program, node: fx.Node, norm: _Norm) -> None:
    rank = norm.x.meta["type"].rank
    order = [dim for dim in range(rank) if dim not in norm.dims] + list(norm.dims)
    sizes: list[Any] = [norm.x.meta["type"].shape[dim] for dim in norm.dims]
    last, weight = _times_weight(program, node, norm.dims, sizes)
    bias = None
    if norm.centred:
        last, bias = _plus_bias(program, last, norm.dims, sizes)
    weight, bias = (_as_vector(program, last, each, sizes) for each in (weight, bias))
    turned = order != sorted(order)
    x = program.insert(last, aten.permute.default, norm.x, order) if turned else norm.x
    if norm.centred:
        new = program.insert(last, aten.layer_norm.default, x, sizes, weight, bias, norm.eps)
    else:
        new = program.insert(last, aten.rms_norm.default, x, sizes, weight, norm.eps)
    if turned:
        new = program.insert(last, aten.permute.default, new, [order.index(dim) for dim in range(rank)])
    last.replace_all_uses_with(new)


def _times_weight(
    program: Program, node: fx.Node, dims: tuple[int, ...], sizes: list[Any]
) -> tuple[fx.Node, fx.Node | None]:
    return _affine(program, node, aten.mul.Tensor, dims, sizes)


def _plus_bias(
    program: Program, node: fx.Node, dims: tuple[int, ...], sizes: list[Any]
) -> tuple[fx.Node, fx.Node | None]:
    return _affine(program, node, aten.add.Tensor, dims, sizes)


def _affine(
    program: Program, node: fx.Node, target: Any, dims: tuple[int, ...], sizes: list[Any]
) -> tuple[fx.Node, fx.Node | None]:
    """The one user of `node` that is `target` with a weight over exactly `dims`, and the weight; or `node`, None."""
    users = list(node.users)
    if len(users) != 1 or users[0].target is not target:
        return node, None
    others = [each for each in users[0].args if each is not node]
    if len(others) != 1 or not _spans(program, others[0], node.meta["type"], dims, sizes):
        return node, None
    weight = others[0]
    assert isinstance(weight, fx.Node)
    return users[0], weight


def _spans(program: Program, weight: Any, kind: TensorType, dims: tuple[int, ...], sizes: list[Any]) -> bool:
    """Is it a constant whose shape is that of `kind` along `dims` and 1 elsewhere?"""
    if not isinstance(weight, fx.Node) or _origin(program, weight) is None:
        return False
    shape = weight.meta["type"].shape
    shape = (1,) * (kind.rank - len(shape)) + shape
    wanted = tuple(kind.shape[dim] if dim in dims else 1 for dim in range(kind.rank))
    return bool(shape == wanted)


def _origin(program: Program, node: fx.Node) -> fx.Node | None:
    """The weight that a node is, or is a reshape of."""
    while node.target is aten.reshape.default and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node if program.constant(node) is not None else None


def _as_vector(program: Program, before: fx.Node, weight: fx.Node | None, sizes: list[Any]) -> fx.Node | None:
    """The weight in the shape of the normalized dimensions."""
    if weight is None:
        return None
    origin = _origin(program, weight)
    assert origin is not None
    if list(origin.meta["type"].shape) == sizes:
        return origin
    return program.insert(before, aten.reshape.default, origin, sizes)
