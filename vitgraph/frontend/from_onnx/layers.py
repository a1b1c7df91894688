"""ONNX operators with weights, normalizations and softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from vitgraph.frontend.from_onnx.importing import Importer, Rule
from vitgraph.frontend.from_onnx.layout import turned
from vitgraph.frontend.from_onnx.node import OnnxNode
from vitgraph.frontend.from_onnx.values import Known, Refusal, Tensorial, Value, type_of
from vitgraph.ir.dialect import aten
from vitgraph.ir.tensor_type import Dim


def _matmul(im: Importer, n: OnnxNode) -> Value:
    """By a constant `[in, out]` it is a linear layer, whose weight stands `[out, in]`."""
    x, other = n[0], n[1]
    if _is_weight(im, other) and type_of(other).rank == 2 and isinstance(x, fx.Node):
        return _linear(im, x, turned(im, other, (1, 0)))
    return im.emit(aten.matmul.default, x, other)


def _is_weight(im: Importer, value: Tensorial) -> bool:
    return value in im.weights if isinstance(value, fx.Node) else value.constant is not None


def _linear(im: Importer, x: fx.Node, weight: Tensorial, bias: Known | None = None) -> fx.Node:
    path = im.path
    operand = im.node(weight, "weight")

    def written(later: Known) -> fx.Node:
        before, im.path = im.path, path or im.path
        node = im.emit(aten.linear.default, x, operand, im.node(later, "bias"))
        im.path = before
        return node

    if bias is not None:
        return written(bias)
    node = im.emit(aten.linear.default, x, operand, None)
    im.unbiased[node] = written
    return node


def _gemm(im: Importer, n: OnnxNode) -> Value:
    x, weight, bias = n[0], n[1], n.get(2)
    alpha, beta = n.number("alpha", 1.0), n.number("beta", 1.0)
    if n.whole("transA"):
        x = turned(im, x, (1, 0))
    fits = isinstance(x, fx.Node) and _is_weight(im, weight) and alpha == beta == 1.0
    if fits and (bias is None or (isinstance(bias, Known) and bias.constant is not None and bias.type.rank == 1)):
        assert isinstance(x, fx.Node)
        assert not isinstance(bias, fx.Node)
        return _linear(im, x, weight if n.whole("transB") else turned(im, weight, (1, 0)), bias)
    product: Tensorial = im.emit(aten.matmul.default, x, turned(im, weight, (1, 0)) if n.whole("transB") else weight)
    product = product if alpha == 1.0 else im.emit(aten.mul.Tensor, product, alpha)
    if bias is None:
        return product
    return im.emit(aten.add.Tensor, product, bias if beta == 1.0 else im.call(aten.mul.Tensor, bias, beta))


def _conv(im: Importer, n: OnnxNode) -> Value:
    x, weight, bias = n[0], n[1], n.get(2)
    spatial = type_of(weight).rank - 2
    if spatial not in (1, 2):
        raise Refusal(f"a convolution over {spatial} dimensions; one or two are taken")
    x, padding = padded(im, n, x, [int(str(size)) for size in type_of(weight).shape[2:]], 0.0)
    target: Any = aten.conv2d.default if spatial == 2 else aten.conv1d.default
    return im.emit(
        target,
        x,
        im.node(weight, "weight"),
        None if bias is None else im.node(bias, "bias"),
        n.ints("strides", [1] * spatial),
        padding,
        n.ints("dilations", [1] * spatial),
        n.whole("group", 1),
    )


def padded(im: Importer, n: OnnxNode, x: Tensorial, kernel: list[int], filler: float) -> tuple[Tensorial, list[int]]:
    """The value, and pads on both sides; where the two sides differ the value is padded ahead and the pads are none."""
    count = len(kernel)
    pads = n.ints("pads", [0] * (2 * count)) or []
    auto = n.text("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID"):
        pads = _same(n, x, kernel, auto)
    before, after = pads[:count], pads[count:]
    if before == after:
        return x, before
    sides = [side for axis in range(count - 1, -1, -1) for side in (before[axis], after[axis])]
    return im.emit(aten.pad.default, x, sides, "constant", filler), [0] * count


def _same(n: OnnxNode, x: Tensorial, kernel: list[int], auto: str) -> list[int]:
    """Pads that give ceil(size / stride) results, the odd one below and right for SAME_UPPER."""
    strides, dilations = n.ints("strides", [1] * len(kernel)) or [], n.ints("dilations", [1] * len(kernel)) or []
    before, after = list[int](), list[int]()
    for size, width, stride, dilation in zip(type_of(x).shape[2:], kernel, strides, dilations, strict=True):
        if isinstance(size, Dim):
            raise Refusal("its pads hang on a size that is not known")
        total = max((math.ceil(size / stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    return before + after


def _conv_transpose(im: Importer, n: OnnxNode) -> Value:
    weight, bias = n[1], n.get(2)
    pads = n.ints("pads", [0] * 4) or []
    if (
        type_of(weight).rank != 4
        or pads[:2] != pads[2:]
        or n.given("output_shape")
        or n.text("auto_pad", "NOTSET") != "NOTSET"
    ):
        raise Refusal("a transposed convolution is taken over images, with equal pads on both sides")
    return im.emit(
        aten.conv_transpose2d.input,
        n[0],
        im.node(weight, "weight"),
        None if bias is None else im.node(bias, "bias"),
        n.ints("strides", [1, 1]),
        pads[:2],
        n.ints("output_padding", [0, 0]),
        n.whole("group", 1),
        n.ints("dilations", [1, 1]),
    )


def _layer_norm(im: Importer, n: OnnxNode) -> Value:
    x, weight, bias = n[0], n[1], n.get(2)
    axis = n.whole("axis", -1) % type_of(x).rank
    sizes = list(type_of(x).shape[axis:])
    if any(isinstance(size, Dim) for size in sizes):
        raise Refusal("it is taken along the batch")
    parts = [
        None if each is None else im.node(_shaped(im, each, sizes), stem)
        for each, stem in ((weight, "weight"), (bias, "bias"))
    ]
    return im.emit(aten.layer_norm.default, x, sizes, *parts, n.number("epsilon", 1e-5))


def _shaped(im: Importer, value: Tensorial, sizes: list[Any]) -> Tensorial:
    """A weight in the shape that is normalized over."""
    return value if list(type_of(value).shape) == sizes else im.call(aten.expand.default, value, sizes)


def _rms_norm(im: Importer, n: OnnxNode) -> Value:
    x = n[0]
    sizes = list(type_of(x).shape[n.whole("axis", -1) % type_of(x).rank :])
    return im.emit(
        aten.rms_norm.default, x, sizes, im.node(_shaped(im, n[1], sizes), "weight"), n.number("epsilon", 1e-5)
    )


def _batch_norm(im: Importer, n: OnnxNode) -> tuple[Value, ...]:
    if n.whole("training_mode") or n.outputs != 1:
        raise Refusal("it is in training; export the model in eval mode")
    stems = ("weight", "bias", "running_mean", "running_var")
    parts = [im.node(n.known(position, stem), stem) for position, stem in enumerate(stems, 1)]
    return (im.emit(aten.batch_norm.default, n[0], *parts, False, 0.1, n.number("epsilon", 1e-5), False),)


def _group_norm(im: Importer, n: OnnxNode) -> Value:
    """Until opset 20 scale and bias were one for each group."""
    groups, channels = n.whole("num_groups"), type_of(n[0]).shape[1]
    weight, bias = n.known(1, "scale"), n.known(2, "bias")
    if n.opset < 21 and weight.type.shape != (channels,):
        each = int(str(channels)) // groups
        weight, bias = (Known((known.samples[0].repeat_interleave(each),), known.name) for known in (weight, bias))
    eps = n.number("epsilon", 1e-5)
    return im.emit(aten.group_norm.default, n[0], groups, im.node(weight, "weight"), im.node(bias, "bias"), eps, False)


def _instance_norm(im: Importer, n: OnnxNode) -> Value:
    """A group norm with a group for each channel."""
    channels = int(str(type_of(n[0]).shape[1]))
    parts = [im.node(n[1], "weight"), im.node(n[2], "bias")]
    return im.emit(aten.group_norm.default, n[0], channels, *parts, n.number("epsilon", 1e-5), False)


def _softmax(target: Any) -> Any:
    """Until opset 12 over everything from an axis on, since then over one."""

    def rule(im: Importer, n: OnnxNode) -> Value:
        x, rank = n[0], type_of(n[0]).rank
        axis = n.whole("axis", -1 if n.opset >= 13 else 1) % max(rank, 1)
        if n.opset >= 13 or axis == rank - 1:
            return im.emit(target, x, axis)
        have = list(type_of(x).shape)
        if any(isinstance(size, Dim) for size in have[axis:]):
            raise Refusal("it is taken along the batch")
        flat = im.reshape(x, [*have[:axis], math.prod(int(str(size)) for size in have[axis:])])
        return im.reshape(im.emit(target, flat, axis), have)

    return rule


def _einsum(im: Importer, n: OnnxNode) -> Value:
    return im.emit(aten.einsum.default, n.text("equation"), n.all())


def _prelu(im: Importer, n: OnnxNode) -> Value:
    slope = n.known(1, "slope")
    if slope.constant is None:
        raise Refusal("its slope depends on the batch size")
    return im.emit(aten.prelu.default, n[0], im.node(Known((slope.constant.reshape(-1),), slope.name), "weight"))


def _attention(im: Importer, n: OnnxNode) -> Value:
    """`Attention` of opset 23 on `[batch, heads, tokens, width]`."""
    q, k, v, mask = n[0], n[1], n[2], n.get(3)
    plain = (
        n.outputs == 1 and not n.number("softcap", 0.0) and n.get(4) is None and n.whole("qk_matmul_output_mode") == 0
    )
    if type_of(q).rank != 4 or not plain or type_of(q).shape[1] != type_of(k).shape[1]:
        raise Refusal(
            "attention is taken of queries, keys and values [batch, heads, tokens, width], and nothing kept of it"
        )
    if mask is not None and type_of(mask).dtype == torch.bool:
        zero, none = (Known((torch.tensor(value),)) for value in (0.0, -math.inf))
        mask = im.call(aten.where.self, mask, zero, none)
    scale = n.given("scale")
    attend: Any = aten.scaled_dot_product_attention.default
    return im.emit(
        attend, q, k, v, mask, 0.0, bool(n.whole("is_causal")), scale=None if scale is None else float(scale)
    )


LAYERS: Mapping[str, Rule] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "Softmax": _softmax(aten.softmax.int),
    "LogSoftmax": _softmax(aten.log_softmax.int),
    "Einsum": _einsum,
    "PRelu": _prelu,
    "Attention": _attention,
}
