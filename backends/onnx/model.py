"""What was written: the file, and the places in it that an engine is judged by.

Which node computes which linear layer, in which number formats and where its weight lies, and which node is
the softmax of which attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir
import torch
from torch import Tensor, fx

from vitgraph.backends.onnx.graph_builder import Call, Lowering
from vitgraph.ir.calls import AttentionCall, PairCall, QuantizeCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import KEEPS_CODES
from vitgraph.ir.tensor_type import TensorType

LINEAR: dict[Any, str] = {aten.linear.default: "MatMul", aten.conv1d.default: "Conv", aten.conv2d.default: "Conv"}
"""Operators with a weight, and the ONNX node that computes each."""

Kind = Literal["int8", "fp8", "int4", "fp16", "bf16", "fp32"]
_KINDS: dict[torch.dtype, Kind] = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


@dataclass(frozen=True)
class LinearNode:
    """A linear layer or convolution in the file."""

    path: str
    node: str
    """Name of its MatMul or Conv."""
    operator: str
    input_format: str | None
    """The number format its input is rounded to, where it is."""
    weight_format: str | None
    weight: str | None
    """Name of the initializer of codes, where there is one: `[K, N]` for MatMul, `[N, K / groups, ...]` for Conv."""
    k_axis: int
    groups: int = 1

    @property
    def planned(self) -> str:
        """What the product is computed in: the format of its input where both operands have one, else `float`."""
        return self.input_format if self.input_format and self.weight_format else "float"


@dataclass(frozen=True)
class AttentionNode:
    """An attention in the file."""

    path: str
    softmax: str
    """Name of its Softmax."""
    planned: Kind
    """The format of its probabilities where they are quantized, and the type of its operands otherwise."""


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file that was written, and what an engine made of it is held to."""

    path: Path
    files: tuple[Path, ...]
    """`path`, and the file of external data where there is one."""
    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    linears: tuple[LinearNode, ...]
    attentions: tuple[AttentionNode, ...]
    weights: Mapping[str, Tensor] = field(repr=False)
    """The initializers of codes by name, as they are stored; INT4 one to a byte."""
    operators: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many nodes there are of each ONNX operator."""

    @property
    def dynamic_batch(self) -> bool:
        """Whether the first input's batch size is left open."""
        return any(not isinstance(size, int) for kind in self.inputs.values() for size in kind.shape)


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
