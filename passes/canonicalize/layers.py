"""Rules of `canonicalize` for layers: linear maps, normalization, attention."""

from __future__ import annotations

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


def linear(program: Program, node: fx.Node) -> fx.Node | None:
    """A vector of weights is a matrix of one row."""
    values = arguments(node)
    if len(shape(values["weight"])) != 1:
        return None
    row = program.insert(node, aten.reshape.default, values["weight"], [1, *shape(values["weight"])])
    made = program.insert(node, aten.linear.default, values["input"], row, None)
    column = program.insert(node, aten.select.int, made, len(shape(made)) - 1, 0)
    bias = values["bias"]
    return column if bias is None else program.insert(node, aten.add.Tensor, column, bias)


def addmm(program: Program, node: fx.Node) -> fx.Node | None:
    """`beta * bias + alpha * (a @ b)`; a bias times zero is not read, whatever it holds."""
    values = arguments(node)
    left, right = (values[name] for name in values if name.startswith(("mat", "batch", "vec")))
    bias, alpha, beta = values["self"], values["alpha"], values["beta"]
    if _is_weight_matrix(right) and len(shape(bias)) == 1 and alpha == beta == 1:
        turned = program.insert(node, aten.permute.default, right, [1, 0])
        return program.insert(node, aten.linear.default, left, turned, bias)
    product = program.insert(node, aten.matmul.default, left, right)
    if node.target is aten.addbmm.default:
        product = program.insert(node, aten.sum.dim_IntList, product, [0])
    scaled = program.insert(node, aten.mul.Tensor, product, alpha)
    return scaled if beta == 0 else program.insert(node, aten.add.Tensor, scaled, bias, alpha=beta)


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
    dilation = values["dilation"] * (len(kernel) // len(values["dilation"]))
    total = [0] * len(kernel)
    if values["padding"] == "same":
        total = [d * (size - 1) for d, size in zip(dilation, kernel, strict=True) if isinstance(size, int)]
    image = values["input"]
    if any(each % 2 for each in total):  # one more at the end
        pads = [pad for each in reversed(total) for pad in (each // 2, each - each // 2)]
        image = program.insert(node, aten.pad.default, image, pads, "constant", 0.0)
        total = [0] * len(kernel)
    padding = [each // 2 for each in total]
    rest = (values["stride"], padding, values["dilation"], values["groups"])
    target = aten.conv2d.default if len(kernel) == 2 else aten.conv1d.default
    return program.insert(node, target, image, values["weight"], values["bias"], *rest)


def transposed_along_a_line(program: Program, node: fx.Node) -> fx.Node | None:
    """`conv_transpose1d` as the two-dimensional one on images of height 1."""
    values = arguments(node)
    image, weight = (
        program.insert(node, aten.unsqueeze.default, values[name], len(shape(values[name])) - 1)
        for name in ("input", "weight")
    )
    fixed = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
    sizes = {name: [at, *values[name]] for name, at in fixed.items()}
    args = (sizes["stride"], sizes["padding"], sizes["output_padding"], values["groups"], sizes["dilation"])
    made = program.insert(node, aten.conv_transpose2d.input, image, weight, values["bias"], *args)
    return program.insert(node, aten.squeeze.dim, made, len(shape(node)) - 1)


def instance_norm(program: Program, node: fx.Node) -> fx.Node | None:
    """A group norm of one channel a group; with running statistics, a batch norm. As many channels as the batch are refused by name."""
    values = arguments(node)
    names = ("input", "weight", "bias", "running_mean", "running_var")
    if not values["use_input_stats"]:
        given = [values[name] for name in names]
        return program.insert(node, aten.batch_norm.default, *given, False, values["momentum"], values["eps"], False)
    channels = shape(source(node))[1]
    if not isinstance(channels, int):
        return None
    affine = (values["weight"], values["bias"], values["eps"])
    return program.insert(node, aten.group_norm.default, source(node), channels, *affine)


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


LAYERS: dict[Any, Rule] = {
    aten.linear.default: linear,
    aten.matmul.default: matmul,
    aten.mm.default: matmul,
    aten.bmm.default: matmul,
    **dict.fromkeys((aten.addmm.default, aten.baddbmm.default, aten.addbmm.default, aten.addmv.default), addmm),
    aten.convolution.default: convolution,
    **dict.fromkeys((aten.conv1d.padding, aten.conv2d.padding), named_padding),
    aten.conv_transpose1d.default: transposed_along_a_line,
    aten.instance_norm.default: instance_norm,
    aten.col2im.default: fold_patches,
    aten.conv2d.default: in_pairs,
    aten.layer_norm.default: layer_norm,
    aten.batch_norm.default: batch_norm,
}
"""Rule by operator."""
