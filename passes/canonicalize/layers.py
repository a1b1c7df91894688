"""Rules of `canonicalize` for layers: linear maps, normalization, attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import RELAYS
from vitgraph.ir.program import Program
from vitgraph.passes.canonicalize.rule import Rule, shape, source


def matmul(program: Program, node: fx.Node) -> fx.Node | None:
    """A product with a matrix of weights is a linear layer."""
    left, right = arguments(node).values()
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
    while node.target in RELAYS:
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


LAYERS: dict[Any, Rule] = {
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
}
"""Rule by operator."""
