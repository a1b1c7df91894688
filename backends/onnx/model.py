"""What the lowering says of the places that an engine is judged by: each linear layer and each softmax attention."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from torch import fx

from vitgraph.backends.onnx.graph_builder import Call, Lowering
from vitgraph.ir.calls import AttentionCall, PairCall, QuantizeCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import KEEPS_CODES
from vitgraph.runtime.onnx_model import AttentionNode, Kind, LinearNode

LINEAR: dict[Any, str] = {aten.linear.default: "MatMul", aten.conv1d.default: "Conv", aten.conv2d.default: "Conv"}
"""Operators with a weight, and the ONNX node that computes each."""

_KINDS: dict[torch.dtype, Kind] = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


def describe_linear(g: Lowering, node: fx.Node) -> LinearNode:
    """What a linear layer or convolution became."""
    call, made = Call(node), g.made[node]
    operator = LINEAR[node.target]
    dequantizers = [each for each in made if each.op_type == "DequantizeLinear"]
    weight = str(dequantizers[0].inputs[0].name) if dequantizers and dequantizers[0].inputs[0] else None
    rounded, stored = QuantizeCall.of(_before_moves(call["input"])), PairCall.of(call["weight"])
    return LinearNode(
        path=call.path,
        node=_name_of(made, operator),
        operator=operator,
        input_format=None if rounded is None else rounded.format.name,
        weight_format=None if stored is None else stored.format.name,
        weight=weight,
        k_axis=0 if operator == "MatMul" else 1,
        groups=1 if operator == "MatMul" else int(call["groups"]),
    )


def describe_attention(g: Lowering, node: fx.Node) -> AttentionNode:
    """What a softmax attention became."""
    call = Call(node)
    fused = AttentionCall.of(node)
    rounded = None if fused is None else fused.probability_format
    planned: Kind = _KINDS.get(call.type.dtype, "fp32") if rounded is None else rounded.name  # type: ignore[assignment]
    return AttentionNode(call.path, _name_of(g.made[node], "Softmax"), planned)


def _name_of(made: list[ir.Node], operator: str) -> str:
    return str(next(each.name for each in made if each.op_type == operator))


def _before_moves(node: fx.Node) -> fx.Node:
    """What a value was before it was reshaped, permuted, cut or cast."""
    while node.target in KEEPS_CODES:
        node = node.all_input_nodes[0]
    return node
