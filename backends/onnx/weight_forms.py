"""ONNX forms of what computes with weights: linear layers, convolutions, quantizers and attention.

The forms are those the TensorRT builder turns into INT8 GEMMs and fused attention: a linear layer is a MatMul whose
weight is stored `[K, N]`, a quantized weight is a constant that one DequantizeLinear reads, and attention is spelled in
primitives (Mul, Transpose, MatMul, Add, Softmax, MatMul).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx

from vitgraph.backends.onnx.graph_builder import INT4, Call, Lowering, NoLowering, Result, Table, tensor_type
from vitgraph.ir.dialect import aten, attention, dequantize, fake_quantize, mask, quantize_values
from vitgraph.ir.formats import Format, number_format


@dataclass(frozen=True)
class Weight:
    """A constant of codes on its way to a DequantizeLinear: codes, scale, and the axis the scale runs along.

    A scale of the rank of the codes has one number for each of equal groups along the axis.
    """

    name: str
    q: Tensor
    scale: Tensor
    scale_name: str
    axis: int | None
    dtype: torch.dtype
    grid: Format


def quantized_weight(g: Lowering, node: Any) -> Weight | None:
    """The constant of quantized values that a weight operand comes from; None where the weight is not quantized."""
    if not isinstance(node, fx.Node) or node.target not in (dequantize, fake_quantize):
        return None
    call = Call(node)
    source = call["q" if node.target is dequantize else "x"]
    if not g.is_constant(source) or not g.is_constant(call["scale"]):
        return None
    tensor, scale, axis = g.constant(source), g.constant(call["scale"]), call["axis"]
    if node.target is fake_quantize:
        tensor = quantize_values(tensor, scale, axis, call["format"])
    rank = tensor.dim()
    return Weight(
        name=g.weight_name(source),
        q=tensor,
        scale=scale,
        scale_name=g.weight_name(call["scale"]),
        axis=None if axis is None else int(axis) % rank,
        dtype=call.type.dtype,
        grid=number_format(call["format"]),
    )


def dequantized(g: Lowering, weight: Weight, order: Sequence[int]) -> ir.Value:
    """An initializer of codes with its axes in the order of storage, and the DequantizeLinear that reads it."""
    stored = weight.q.permute(*order)
    key = (weight.grid.name, weight.name, weight.scale_name, tuple(order))
    q = g.initializer(key, weight.name, stored.shape, _stored_as(weight.grid), lambda: stored)
    axis = None if weight.axis is None else list(order).index(weight.axis)
    grouped = weight.scale.dim() > 1
    values = weight.scale.permute(*order) if grouped else weight.scale
    scale, zero = _scale_and_zero(g, values, weight.scale_name, axis, weight.dtype, weight.grid)
    size = stored.shape[axis] // values.shape[axis] if grouped and axis is not None else None
    return g.emit("DequantizeLinear", q, scale, zero, axis=axis, block_size=size)


def _stored_as(grid: Format) -> torch.dtype:
    """The type of the codes in the file."""
    return INT4 if grid.name == "int4" else grid.dtype


def _scale_and_zero(
    g: Lowering, scale: Tensor, name: str, axis: int | None, dtype: torch.dtype, grid: Format
) -> tuple[ir.Value, ir.Value]:
    """A scale in the type of the arithmetic (a scalar, a vector along an axis, or groups) and zero points of its shape.

    The type of the zero points is the format's: it says what QuantizeLinear rounds to.
    """
    shape = () if axis is None else tuple(scale.shape) if scale.dim() > 1 else (scale.numel(),)
    value = g.initializer(
        ("scale", name, dtype, shape, axis if scale.dim() > 1 else None),
        name,
        shape,
        dtype,
        lambda: scale.reshape(shape).to(dtype),
    )
    kind = "" if grid.name == "int8" else f"/{grid.name}"
    zero = g.small(f"zero_point{kind}{list(shape) or ''}", torch.zeros(shape, dtype=grid.dtype), _stored_as(grid))
    return value, zero


def _fake_quantize(g: Lowering, call: Call) -> Result:
    weight = quantized_weight(g, call.node)
    if weight is not None:  # used as an ordinary value: a weight operand never comes here
        return dequantized(g, weight, range(weight.q.dim()))
    dtype, axis = call.type.dtype, call["axis"]
    scale = g.constant(call["scale"])
    axis = None if axis is None else int(axis) % call.type.rank
    grid = number_format(call["format"])
    scale_value, zero = _scale_and_zero(g, scale, g.weight_name(call["scale"]), axis, dtype, grid)
    x = g.operand(call["x"], dtype)
    if call["shift"] is None:
        return quantize_dequantize(g, x, scale_value, zero, axis)
    shift = g.operand(call["shift"], dtype)
    return g.emit("Add", quantize_dequantize(g, g.emit("Sub", x, shift), scale_value, zero, axis), shift)


def quantize_dequantize(g: Lowering, x: ir.Value, scale: ir.Value, zero: ir.Value, axis: int | None = None) -> ir.Value:
    """A QuantizeLinear and a DequantizeLinear of one scale."""
    q = g.emit("QuantizeLinear", x, scale, zero, axis=axis)
    return g.emit("DequantizeLinear", q, scale, zero, axis=axis)


def _dequantize(g: Lowering, call: Call) -> Result:
    weight = quantized_weight(g, call.node)
    if weight is None:
        raise NoLowering("codes that are computed have no lowering; dequantize stands on a constant")
    return dequantized(g, weight, range(weight.q.dim()))


def _mask(g: Lowering, call: Call) -> Result:
    dtype = call.type.dtype
    return g.emit("Mul", g.value(call["weight"]), g.operand(call["keep"], dtype))


def weight_operand(g: Lowering, node: fx.Node, order: Sequence[int]) -> ir.Value:
    """A weight as an operand, its axes in the order of storage; computed weights are transposed in the graph."""
    weight = quantized_weight(g, node)
    if weight is not None:
        return dequantized(g, weight, order)
    if list(order) == sorted(order) or not g.is_constant(node):
        return g.transpose(g.value(node), order)
    kind = tensor_type(node)
    shape = [kind.static[axis] for axis in order]
    key = ("stored", node.target if node.op == "get_attr" else node, tuple(order))
    return g.initializer(key, g.weight_name(node), shape, kind.dtype, lambda: g.constant(node).permute(*order))


def _linear(g: Lowering, call: Call) -> Result:
    weight = weight_operand(g, call["weight"], (1, 0))
    y = g.emit("MatMul", g.value(call["input"]), weight)
    return y if call["bias"] is None else g.emit("Add", y, g.value(call["bias"]))


def _conv(g: Lowering, call: Call) -> Result:
    weight = weight_operand(g, call["weight"], range(tensor_type(call["weight"]).rank))
    spatial = tensor_type(call["weight"]).rank - 2
    x, batched = g.value(call["input"]), tensor_type(call["input"]).rank == spatial + 2
    if not batched:
        x = g.emit("Unsqueeze", x, g.ints([0]))
    pads = _pair(call["padding"], spatial)
    y = g.emit(
        "Conv",
        x,
        weight,
        *([] if call["bias"] is None else [g.value(call["bias"])]),
        kernel_shape=list(tensor_type(call["weight"]).static[2:]),
        strides=_pair(call["stride"], spatial),
        pads=pads + pads,
        dilations=_pair(call["dilation"], spatial),
        group=int(call["groups"]),
    )
    return y if batched else g.emit("Squeeze", y, g.ints([0]))


def _conv_transpose(g: Lowering, call: Call) -> Result:
    pads = _pair(call["padding"], 2)
    return g.emit(
        "ConvTranspose",
        g.value(call["input"]),
        weight_operand(g, call["weight"], range(4)),
        *([] if call["bias"] is None else [g.value(call["bias"])]),
        strides=_pair(call["stride"], 2),
        pads=pads + pads,
        output_padding=_pair(call["output_padding"], 2),
        dilations=_pair(call["dilation"], 2),
        group=int(call["groups"]),
    )


def _pair(values: Any, count: int) -> list[int]:
    """One number for each axis, where one may be given for all."""
    listed = [int(value) for value in values] if isinstance(values, list | tuple) else [int(values)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return listed * count if len(listed) == 1 else listed


def _attention(g: Lowering, call: Call) -> Result:
    dtype = call.type.dtype
    q, k, v = (g.operand(call[name], dtype) for name in ("q", "k", "v"))
    bias = None if call["bias"] is None else g.operand(call["bias"], dtype)
    probabilities = softmax_of_scores(g, q, k, tensor_type(call["k"]).rank, bias, call["scale"], dtype)
    if call["probability_scale"] is not None:
        name, grid = g.weight_name(call["probability_scale"]), number_format(call["probability_format"])
        scale, zero = _scale_and_zero(g, g.constant(call["probability_scale"]), name, None, dtype, grid)
        probabilities = quantize_dequantize(g, probabilities, scale, zero)
    return g.emit("MatMul", probabilities, v)


def softmax_of_scores(
    g: Lowering, q: ir.Value, k: ir.Value, rank: int, bias: ir.Value | None, scale: float, dtype: torch.dtype
) -> ir.Value:
    """softmax(scale q kᵀ + bias), scaled on q: the place that the builder fuses in every type."""
    if scale != 1.0:
        q = g.emit("Mul", q, g.number(scale, dtype))
    k = g.transpose(k, [*range(rank - 2), rank - 1, rank - 2])
    scores = g.emit("MatMul", q, k)
    if bias is not None:
        scores = g.emit("Add", scores, bias)
    return g.emit("Softmax", scores, axis=-1)


def _sdpa(g: Lowering, call: Call) -> Result:
    if call["enable_gqa"] or call["dropout_p"]:
        raise NoLowering("scaled_dot_product_attention with grouped queries or dropout has no lowering")
    query, key = tensor_type(call["query"]), tensor_type(call["key"])
    scale = call["scale"]
    if scale is None:
        scale = 1.0 / math.sqrt(int(query.shape[-1]))  # type: ignore[arg-type]
    bias = _bias(g, call["attn_mask"], query.dtype)
    if call["is_causal"]:
        rows, columns = query.shape[-2], key.shape[-2]
        if not isinstance(rows, int) or not isinstance(columns, int):
            raise NoLowering("causal attention over a number of tokens that is not known has no lowering")
        above = torch.full((rows, columns), -math.inf, dtype=query.dtype).triu(1)
        bias = g.small(f"causal/{rows}x{columns}/{query.dtype}", above)
    q, k, v = (g.value(call[name]) for name in ("query", "key", "value"))
    return g.emit("MatMul", softmax_of_scores(g, q, k, key.rank, bias, scale, query.dtype), v)


def _bias(g: Lowering, node: Any, dtype: torch.dtype) -> ir.Value | None:
    """An attention mask as something to add: minus infinity where a boolean one is false."""
    if node is None:
        return None
    if tensor_type(node).dtype != torch.bool:
        return g.operand(node, dtype)
    return g.emit("Where", g.value(node), g.number(0.0, dtype), g.number(-math.inf, dtype))


WEIGHTS: Table = {
    aten.linear.default: _linear,
    aten.conv1d.default: _conv,
    aten.conv2d.default: _conv,
    aten.conv_transpose2d.input: _conv_transpose,
    aten.scaled_dot_product_attention.default: _sdpa,
    attention: _attention,
    mask: _mask,
    fake_quantize: _fake_quantize,
    dequantize: _dequantize,
}
