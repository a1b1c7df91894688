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

from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
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
    if inside.target is not aten.add.Tensor or not isinstance(inside.args[1], int | float):
        return None
    eps, spread = float(inside.args[1]), inside.args[0]
    if not isinstance(spread, fx.Node):
        return None
    return _by_var(top, spread, eps) or _by_mean(top, spread, eps)


def _quotient(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """(a, b) of `a / sqrt(b)` or `a * rsqrt(b)`."""
    root = aten.sqrt.default if node.target is aten.div.Tensor else aten.rsqrt.default
    for top, bottom in ((node.args[0], node.args[1]), (node.args[1], node.args[0])):
        if isinstance(top, fx.Node) and isinstance(bottom, fx.Node) and bottom.target is root:
            inner = bottom.args[0]
            return (top, inner) if isinstance(inner, fx.Node) else None
        if node.target is aten.div.Tensor:
            return None
    return None


def _by_var(top: fx.Node, spread: fx.Node, eps: float) -> _Norm | str | None:
    """`(x - mean(x)) / sqrt(var(x) + eps)`."""
    if spread.target is not aten.var.correction:
        return None
    x, dims = spread.args[0], _dims(spread.args[1])
    if not isinstance(x, fx.Node) or not _is_centred(top, x, dims):
        return None
    if spread.kwargs.get("correction") != 0:
        return "its variance is the unbiased one; a layer norm takes the biased one"
    return _Norm(x, dims, eps, centred=True) if spread.kwargs.get("keepdim") else None


def _by_mean(top: fx.Node, spread: fx.Node, eps: float) -> _Norm | None:
    """`y / sqrt(mean(y²) + eps)`: a layer norm of x where y is x less its mean, an RMS norm of y otherwise."""
    if spread.target is not aten.mean.dim or spread.args[2:] != (True,):
        return None
    squared, dims = spread.args[0], _dims(spread.args[1])
    if not isinstance(squared, fx.Node) or not _is_square(squared, top):
        return None
    x = top.args[0] if top.target is aten.sub.Tensor else None
    if isinstance(x, fx.Node) and _is_centred(top, x, dims):
        return _Norm(x, dims, eps, centred=True)
    return _Norm(top, dims, eps, centred=False)


def _dims(given: Any) -> tuple[int, ...]:
    return tuple(given)


def _is_square(node: fx.Node, of: fx.Node) -> bool:
    return node.args == ((of, 2) if node.target is aten.pow.Tensor_Scalar else (of, of)) and node.target in (
        aten.pow.Tensor_Scalar,
        aten.mul.Tensor,
    )


def _is_centred(node: fx.Node, x: fx.Node, dims: tuple[int, ...]) -> bool:
    """Is it `x - mean(x)` over the same dimensions?"""
    if node.target is not aten.sub.Tensor or node.args[0] is not x:
        return False
    mean = node.args[1]
    if not isinstance(mean, fx.Node) or mean.target is not aten.mean.dim:
        return False
    return mean.args[0] is x and _dims(mean.args[1]) == dims and mean.args[2:] == (True,)


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
