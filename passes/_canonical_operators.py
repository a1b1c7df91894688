"""Rules of `canonicalize` for operators that compute: linear maps, normalization, reductions, arithmetic."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from vitgraph.dialect import aten
from vitgraph.operator_schema import opname, schema_of
from vitgraph.passes._canonical_layout import Rule, reshape, shape, source
from vitgraph.passes._constants import number
from vitgraph.passes._schema import arguments
from vitgraph.program import Program
from vitgraph.tensor_type import TensorType


def respell(target: Any, *names: str, **fixed: Any) -> Rule:
    """A rule that calls `target` with these arguments of the old call, in this order."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        values = arguments(node)
        return program.insert(node, target, *[values[name] for name in names], **fixed)

    return rule


# --- linear maps ---


def matmul(program: Program, node: fx.Node) -> fx.Node | None:
    """A product with a matrix of weights is a linear layer."""
    left, right = node.args[0], node.args[1]
    assert isinstance(left, fx.Node)
    assert isinstance(right, fx.Node)
    if _is_weight_matrix(right) and len(shape(left)) >= 2:
        turned = program.insert(node, aten.permute.default, right, [1, 0])
        return program.insert(node, aten.linear.default, left, turned, None)
    if node.target is aten.matmul.default:
        return None
    return program.insert(node, aten.matmul.default, left, right)


def _is_weight_matrix(node: fx.Node) -> bool:
    """Two-dimensional, and a weight or a re-laid weight."""
    if len(shape(node)) != 2:
        return False
    while node.target in (aten.permute.default, aten.reshape.default):
        node = source(node)
    return node.op == "get_attr"


def addmm(program: Program, node: fx.Node) -> fx.Node | None:
    """`beta * bias + alpha * (a @ b)`."""
    values = arguments(node)
    if values["beta"] != 1 or values["alpha"] != 1:
        return None
    left, right = (values["mat1"], values["mat2"]) if "mat1" in values else (values["batch1"], values["batch2"])
    if _is_weight_matrix(right) and len(shape(values["self"])) == 1:
        turned = program.insert(node, aten.permute.default, right, [1, 0])
        return program.insert(node, aten.linear.default, left, turned, values["self"])
    product = program.insert(node, aten.matmul.default, left, right)
    return program.insert(node, aten.add.Tensor, product, values["self"])


def convolution(program: Program, node: fx.Node) -> fx.Node | None:
    """The general convolution as the one of its rank."""
    values = arguments(node)
    rank = len(shape(node)) - 2
    common = [values[name] for name in ("input", "weight", "bias", "stride", "padding")]
    if not values["transposed"] and rank in (1, 2):
        target = aten.conv2d.default if rank == 2 else aten.conv1d.default
        return program.insert(node, target, *common, values["dilation"], values["groups"])
    if values["transposed"] and rank == 2:
        rest = [values[name] for name in ("output_padding", "groups", "dilation")]
        return program.insert(node, aten.conv_transpose2d.input, *common, *rest)
    return None


def named_padding(program: Program, node: fx.Node) -> fx.Node | None:
    """`padding="same"` or `"valid"` in numbers."""
    values = arguments(node)
    kernel = shape(values["weight"])[2:]
    dilation = values["dilation"] * (1 if len(values["dilation"]) == 2 else 2)
    total = [0, 0]
    if values["padding"] == "same":
        total = [d * (size - 1) for d, size in zip(dilation, kernel, strict=True) if isinstance(size, int)]
    image = values["input"]
    if any(each % 2 for each in total):  # one more at the end
        (top, bottom), (left, right) = [(each // 2, each - each // 2) for each in total]
        image = program.insert(node, aten.pad.default, image, [left, right, top, bottom], "constant", 0.0)
        total = [0, 0]
    padding = [each // 2 for each in total]
    rest = (values["stride"], padding, values["dilation"], values["groups"])
    return program.insert(node, aten.conv2d.default, image, values["weight"], values["bias"], *rest)


def fold_patches(program: Program, node: fx.Node) -> fx.Node | None:
    """`col2im` is a transposed convolution whose kernel puts each row of the patches in its own place."""
    values = arguments(node)
    kernel, stride, padding, dilation = (values[name] for name in ("kernel_size", "stride", "padding", "dilation"))
    area, channels = kernel[0] * kernel[1], shape(node)[-3]
    assert isinstance(channels, int)
    reach = [dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1)]
    free = [values["output_size"][axis] + 2 * padding[axis] - reach[axis] for axis in (0, 1)]
    patches = [free[axis] // stride[axis] + 1 for axis in (0, 1)]
    rest = [free[axis] % stride[axis] for axis in (0, 1)]
    places = torch.eye(area).reshape(1, area, 1, *kernel).repeat(channels, 1, 1, 1, 1).flatten(0, 1)
    name = f"{node.meta['path']}.places" if node.meta.get("path") else "places"
    weight = program.constant_node(node, name, places.to(node.meta["type"].dtype))
    image = program.insert(node, aten.unflatten.int, source(node), -1, patches)
    args = (image, weight, None, stride, padding, rest, channels, dilation)
    return program.insert(node, aten.conv_transpose2d.input, *args)


def in_pairs(program: Program, node: fx.Node) -> fx.Node | None:
    """Strides and the like of a two-dimensional operator as two numbers; a pool's stride is its kernel by default."""
    values = arguments(node)
    names = [name for name in ("kernel_size", "stride", "padding", "dilation", "output_size") if name in values]
    changed = False
    for name in names:
        given = values[name] if isinstance(values[name], list) else [values[name]]
        pair = values["kernel_size"] if not given else given * 2 if len(given) == 1 else given
        changed |= pair != values[name]
        values[name] = pair
    return program.insert(node, node.target, *values.values()) if changed else None  # type: ignore[arg-type]


# --- normalization and attention ---


def layer_norm(program: Program, node: fx.Node) -> fx.Node | None:
    """Five arguments."""
    values = arguments(node)
    wanted = [values[name] for name in ("input", "normalized_shape", "weight", "bias", "eps")]
    return None if list(node.args) == wanted else program.insert(node, aten.layer_norm.default, *wanted)


def batch_norm(program: Program, node: fx.Node) -> fx.Node | None:
    """Inference, and no word on cuDNN."""
    values = arguments(node)
    if values["training"]:
        return None
    names = ("input", "weight", "bias", "running_mean", "running_var")
    wanted = [*(values[name] for name in names), False, values["momentum"], values["eps"], False]
    return None if list(node.args) == wanted else program.insert(node, aten.batch_norm.default, *wanted)


def softmax(program: Program, node: fx.Node) -> fx.Node | None:
    """Without a type; a softmax that was to change the type is given a changed input."""
    values = arguments(node)
    dtype = values.get("dtype")
    first = source(node)
    if dtype is None and node.target in (aten.softmax.int, aten.log_softmax.int):
        return None
    if dtype is not None and dtype != first.meta["type"].dtype:
        first = program.insert(node, aten.to.dtype, first, dtype)
    logs = node.target in (aten.log_softmax.int, aten._log_softmax.default)
    return program.insert(node, aten.log_softmax.int if logs else aten.softmax.int, first, values["dim"])


def dot_product_attention(program: Program, node: fx.Node) -> fx.Node | None:
    """`(q, k, v, mask, 0.0, is_causal, scale=number)`, all given."""
    values = arguments(node)
    if values["dropout_p"]:
        return None
    width = shape(values["query"])[-1]
    assert isinstance(width, int)
    scale = 1.0 / math.sqrt(width) if values["scale"] is None else values["scale"]
    wanted = (values["query"], values["key"], values["value"], values["attn_mask"], 0.0, values["is_causal"])
    kwargs = {"scale": scale, **({"enable_gqa": True} if values["enable_gqa"] else {})}
    if node.args == wanted and dict(node.kwargs) == kwargs:
        return None
    return program.insert(node, node.target, *wanted, **kwargs)  # type: ignore[arg-type]


# --- reductions and pooling ---


def over_all(target: Any) -> Rule:
    """A reduction of everything as one over every dimension."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        return program.insert(node, target, source(node), list(range(len(shape(source(node))))))

    return rule


def average_of_all(program: Program, node: fx.Node) -> fx.Node | None:
    """Pooling to one pixel is a mean; to the size it has already, nothing."""
    first, size = source(node), arguments(node)["output_size"]
    if shape(first) == shape(node):
        return first
    if list(size) != [1] * len(size):
        return in_pairs(program, node)
    rank = len(shape(first))
    return program.insert(node, aten.mean.dim, first, [rank - 2, rank - 1][-len(size) :], True)


def sorted_dims(program: Program, node: fx.Node) -> fx.Node | None:
    """The dimensions of a reduction in ascending order, all of them where none are named."""
    values, rank = arguments(node), len(shape(source(node)))
    given = values["dim"]
    given = [given] if isinstance(given, int) else given
    dims = sorted(dim % rank for dim in given) if given else list(range(rank))
    if given == dims and isinstance(values["dim"], list):
        return None
    values["dim"] = dims
    return call_by_name(program, node, node.target, values)


def call_by_name(program: Program, node: fx.Node, target: Any, values: dict[str, Any]) -> fx.Node:
    """A call of `target` with arguments by name, keyword-only ones as keywords."""
    only = {argument.name for argument in schema_of(target).arguments if argument.kwarg_only}
    args = [values[a.name] for a in schema_of(target).arguments if not a.kwarg_only]
    return program.insert(node, target, *args, **{name: values[name] for name in sorted(only)})


def variance(program: Program, node: fx.Node) -> fx.Node | None:
    """`var` and `std` in every spelling as `var.correction`, and its root."""
    values, rank = arguments(node), len(shape(source(node)))
    correction = values.get("correction")
    if correction is None:
        correction = int(values.get("unbiased", True))
    dims = values.get("dim")
    dims = [dims] if isinstance(dims, int) else dims or list(range(rank))
    keep = values.get("keepdim", False)
    name = opname(node.target)
    kwargs = {"correction": correction, "keepdim": keep} if keep else {"correction": correction}
    dims = sorted(dim % rank for dim in dims)
    if name == "var" and node.args == (source(node), dims) and dict(node.kwargs) == kwargs:
        return None
    found = program.insert(node, aten.var.correction, source(node), dims, path=None, **kwargs)
    return program.insert(node, aten.sqrt.default, found) if name == "std" else found


def norm(program: Program, node: fx.Node) -> fx.Node | None:
    """`norm` in every spelling as `linalg_vector_norm(x, p, dims, keepdim)`."""
    values, rank = arguments(node), len(shape(source(node)))
    power = values.get("p", values.get("ord"))
    dims = values.get("dim")
    dims = sorted(dim % rank for dim in ([dims] if isinstance(dims, int) else dims or range(rank)))
    wanted = (source(node), 2 if power is None else power, dims, values.get("keepdim", False))
    if node.target is aten.linalg_vector_norm.default and node.args[1:3] == wanted[1:3]:
        return None
    return program.insert(node, aten.linalg_vector_norm.default, *wanted)


def pool_along_a_line(program: Program, node: fx.Node) -> fx.Node | None:
    """`avg_pool1d` as the two-dimensional one on images of height 1."""
    values = arguments(node)
    image = program.insert(node, aten.unsqueeze.default, source(node), len(shape(source(node))) - 1)
    stride = values["stride"] or values["kernel_size"]
    sizes = ([1, *values["kernel_size"]], [1, *stride], [0, *values["padding"]])
    pooled = program.insert(
        node, aten.avg_pool2d.default, image, *sizes, values["ceil_mode"], values["count_include_pad"]
    )
    return program.insert(node, aten.squeeze.dim, pooled, len(shape(node)) - 1)


# --- arithmetic ---


def to_dtype(program: Program, node: fx.Node) -> fx.Node | None:
    """A change of type, and of nothing else."""
    first = source(node)
    wanted: TensorType = node.meta["type"]
    if first.meta["type"] == wanted:
        return first
    if node.args == (first, wanted.dtype) and node.target is aten.to.dtype:
        return None
    return program.insert(node, aten.to.dtype, first, wanted.dtype)


def arithmetic(program: Program, node: fx.Node) -> fx.Node | None:
    """Numbers as numbers, on the right; steps that do nothing are dropped."""
    values = arguments(node)
    left, right = values["self"], values["other"]
    alpha = values.get("alpha", 1)
    name = opname(node.target)
    if number(program, right) is not None:
        right = _if_same_type(program, node, right)
    elif name in ("add", "mul") and alpha == 1 and _is_constant(left) and not _is_constant(right):
        left, right = right, left  # weights on the right
        if number(program, right) is not None:
            right = _if_same_type(program, node, right, left)
    if alpha != 1:
        right = right * alpha if isinstance(right, int | float) else program.insert(node, aten.mul.Tensor, right, alpha)
    if name == "sub" and isinstance(right, int | float):
        name, right = "add", -right
    neutral = {"add": 0, "sub": 0, "mul": 1, "div": 1}[name]
    if isinstance(right, int | float) and right == neutral and left.meta["type"] == node.meta["type"]:
        return left  # type: ignore[no-any-return]
    target: Any = {"add": aten.add.Tensor, "sub": aten.sub.Tensor, "mul": aten.mul.Tensor, "div": aten.div.Tensor}[name]
    if node.target is target and node.args == (left, right) and not node.kwargs:
        return None
    return program.insert(node, target, left, right)


def _is_constant(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"


def _if_same_type(program: Program, node: fx.Node, scalar: Any, other: Any = None) -> Any:
    """The number of a constant, unless shape or type of the result hang on its being a tensor."""
    left: TensorType = (other or source(node)).meta["type"]
    return number(program, scalar) if left == node.meta["type"] else scalar


def add_product(program: Program, node: fx.Node) -> fx.Node | None:
    """`addcmul`: `self + value * a * b`."""
    values = arguments(node)
    product = program.insert(node, aten.mul.Tensor, values["tensor1"], values["tensor2"])
    return program.insert(node, aten.add.Tensor, product, values["self"], alpha=values["value"])


def reverse_subtract(program: Program, node: fx.Node) -> fx.Node | None:
    """`other - alpha * self`."""
    values = arguments(node)
    other = values["other"]
    if isinstance(other, fx.Node):
        return program.insert(node, aten.sub.Tensor, other, values["self"], alpha=values["alpha"])
    negative = program.insert(node, aten.neg.default, values["self"])
    scaled = program.insert(node, aten.mul.Tensor, negative, values["alpha"])
    return program.insert(node, aten.add.Tensor, scaled, other)


def power(program: Program, node: fx.Node) -> fx.Node | None:
    """Roots by their own names."""
    exponent = node.args[1]
    named = {0.5: aten.sqrt.default, -0.5: aten.rsqrt.default, -1: aten.reciprocal.default}
    if exponent == 1:
        return source(node) if source(node).meta["type"] == node.meta["type"] else None
    if not isinstance(exponent, int | float) or exponent not in named:
        return None
    return program.insert(node, named[exponent], source(node))


def square(program: Program, node: fx.Node) -> fx.Node | None:
    """A power of two."""
    return program.insert(node, aten.pow.Tensor_Scalar, source(node), 2)


def clamp(program: Program, node: fx.Node) -> fx.Node | None:
    """Every clamp by number in one spelling; from zero upwards it is a relu."""
    values = arguments(node)
    low, high = values.get("min", values.get("min_val")), values.get("max", values.get("max_val"))
    if node.target is aten.relu6.default:
        low, high = 0, 6
    if low == 0 and high is None:
        return program.insert(node, aten.relu.default, source(node))
    wanted = (source(node), low) if high is None else (source(node), low, high)
    if node.target is aten.clamp.default and node.args == wanted:
        return None
    return program.insert(node, aten.clamp.default, *wanted)


def clamp_by_tensors(program: Program, node: fx.Node) -> fx.Node | None:
    """A clamp between constants is one between numbers; between other tensors, a maximum and a minimum."""
    values, new = arguments(node), source(node)
    low, high = values.get("min"), values.get("max")
    numbers = [None if each is None else number(program, each) for each in (low, high)]
    if all(each is None or known is not None for each, known in zip((low, high), numbers, strict=True)):
        bounds = [None if each is None or math.isinf(each) else each for each in numbers]
        return new if bounds == [None, None] else program.insert(node, aten.clamp.default, new, *bounds)
    new = new if low is None else program.insert(node, aten.maximum.default, new, low)
    return new if high is None else program.insert(node, aten.minimum.default, new, high)


def compare(program: Program, node: fx.Node) -> fx.Node | None:
    """A comparison with a number by its own overload."""
    found = number(program, node.args[1])
    if found is None or shape(source(node)) != shape(node):
        return None
    packet = getattr(aten, opname(node.target))
    return program.insert(node, packet.Scalar, source(node), found)


def compare_with_constant(program: Program, node: fx.Node) -> fx.Node | None:
    """`<` and the like take tensors: a number becomes a constant."""
    values, first = arguments(node), source(node)
    name = f"{node.meta['path']}.limit" if node.meta.get("path") else "limit"
    limit = program.constant_node(node, name, torch.tensor(values["other"], dtype=first.meta["type"].dtype))
    packet = getattr(aten, opname(node.target))
    return program.insert(node, packet.Tensor, first, limit)


def where(program: Program, node: fx.Node) -> fx.Node | None:
    """Numbers in a choice become constants: `where.self` takes tensors."""
    values = arguments(node)
    dtype = node.meta["type"].dtype
    arms = [values["self"], values["other"]]
    for side, arm in enumerate(arms):
        if not isinstance(arm, fx.Node):
            name = f"{node.meta['path']}.choice" if node.meta.get("path") else "choice"
            arms[side] = program.constant_node(node, name, torch.tensor(arm, dtype=dtype))
    return program.insert(node, aten.where.self, values["condition"], *arms)


def masked_fill(program: Program, node: fx.Node) -> fx.Node | None:
    """The filling as a number."""
    value = number(program, node.args[2])
    if value is None:
        return None
    return program.insert(node, aten.masked_fill.Scalar, source(node), node.args[1], value)


def logical(target: Any) -> Rule:
    """A bitwise operator on truth values is the logical one."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        if node.meta["type"].dtype != torch.bool:
            return None
        return program.insert(node, target, *node.args)

    return rule


OPERATORS: dict[Any, Rule] = {
    aten.matmul.default: matmul,
    aten.mm.default: matmul,
    aten.bmm.default: matmul,
    aten.addmm.default: addmm,
    aten.baddbmm.default: addmm,
    aten.convolution.default: convolution,
    aten.conv2d.padding: named_padding,
    aten.col2im.default: fold_patches,
    **dict.fromkeys(
        (
            aten.conv2d.default,
            aten.max_pool2d.default,
            aten.avg_pool2d.default,
            aten.adaptive_max_pool2d.default,
        ),
        in_pairs,
    ),
    aten.layer_norm.default: layer_norm,
    aten.batch_norm.default: batch_norm,
    **dict.fromkeys(
        (aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten._log_softmax.default), softmax
    ),
    aten.scaled_dot_product_attention.default: dot_product_attention,
    aten.adaptive_avg_pool2d.default: average_of_all,
    aten._adaptive_avg_pool2d.default: respell(aten.adaptive_avg_pool2d.default, "self", "output_size"),
    aten.avg_pool1d.default: pool_along_a_line,
    aten.mean.default: over_all(aten.mean.dim),
    aten.sum.default: over_all(aten.sum.dim_IntList),
    aten.max.default: over_all(aten.amax.default),
    aten.min.default: over_all(aten.amin.default),
    **dict.fromkeys((aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default), sorted_dims),
    **dict.fromkeys(
        (
            aten.var.default,
            aten.var.dim,
            aten.var.correction,
            aten.std.default,
            aten.std.dim,
            aten.std.correction,
        ),
        variance,
    ),
    **dict.fromkeys(
        (
            aten.norm.Scalar,
            aten.norm.ScalarOpt_dim,
            aten.linalg_norm.default,
            aten.linalg_vector_norm.default,
        ),
        norm,
    ),
    **dict.fromkeys(
        (
            aten.to.dtype,
            aten.to.dtype_layout,
            aten.to.device,
            aten.to.other,
            aten._to_copy.default,
            aten.type_as.default,
        ),
        to_dtype,
    ),
    **dict.fromkeys(
        (
            aten.add.Tensor,
            aten.add.Scalar,
            aten.sub.Tensor,
            aten.sub.Scalar,
            aten.mul.Tensor,
            aten.mul.Scalar,
            aten.div.Tensor,
            aten.div.Scalar,
        ),
        arithmetic,
    ),
    aten.addcmul.default: add_product,
    aten.rsub.Scalar: reverse_subtract,
    aten.rsub.Tensor: reverse_subtract,
    aten.pow.Tensor_Scalar: power,
    aten.square.default: square,
    **dict.fromkeys(
        (
            aten.clamp.default,
            aten.clamp_min.default,
            aten.clamp_max.default,
            aten.hardtanh.default,
            aten.relu6.default,
        ),
        clamp,
    ),
    **dict.fromkeys((aten.clamp.Tensor, aten.clamp_min.Tensor, aten.clamp_max.Tensor), clamp_by_tensors),
    **dict.fromkeys((aten.eq.Tensor, aten.ne.Tensor), compare),
    **dict.fromkeys((aten.lt.Scalar, aten.le.Scalar, aten.gt.Scalar, aten.ge.Scalar), compare_with_constant),
    **dict.fromkeys((aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar), where),
    aten.masked_fill.Tensor: masked_fill,
    aten.bitwise_not.default: logical(aten.logical_not.default),
    aten.bitwise_and.Tensor: logical(aten.logical_and.default),
    aten.bitwise_or.Tensor: logical(aten.logical_or.default),
    aten.unflatten.int: reshape,
}
"""Rule by operator."""
