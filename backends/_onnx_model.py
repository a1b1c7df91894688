"""What was written: the file, and the places in it that an engine is judged by.

Which node computes which linear layer, whether it was planned in INT8 and where its INT8 weight lies, and which node is
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

from vitgraph.backends._onnx_graph import Call, Lowering
from vitgraph.dialect import attention, fake_quantize
from vitgraph.tensor_type import TensorType

aten = torch.ops.aten

LINEAR: dict[Any, str] = {aten.linear.default: "MatMul", aten.conv1d.default: "Conv", aten.conv2d.default: "Conv"}
"""Operators with a weight, and the ONNX node that computes each."""

Kind = Literal["int8", "fp16", "bf16", "fp32"]
_KINDS: dict[torch.dtype, Kind] = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
_MOVES = (
    aten.reshape.default,
    aten.permute.default,
    aten.expand.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.roll.default,
    aten.to.dtype,
)


@dataclass(frozen=True)
class LinearNode:
    """A linear layer or convolution in the file."""

    path: str
    node: str
    """Name of its MatMul or Conv."""
    operator: str
    input_quantized: bool
    weight_quantized: bool
    weight: str | None
    """Name of the INT8 initializer, where there is one: `[K, N]` for MatMul, `[N, K / groups, ...]` for Conv."""
    k_axis: int
    groups: int = 1

    @property
    def planned_int8(self) -> bool:
        """Whether both operands are INT8."""
        return self.input_quantized and self.weight_quantized


@dataclass(frozen=True)
class AttentionNode:
    """An attention in the file."""

    path: str
    softmax: str
    """Name of its Softmax."""
    planned: Kind
    """INT8 where its probabilities are quantized, and the type of its operands otherwise."""


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
    int8_weights: Mapping[str, Tensor] = field(repr=False)
    """The INT8 initializers by name, as they are stored."""
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
    return LinearNode(
        path=call.path,
        node=_name_of(made, operator),
        operator=operator,
        input_quantized=_behind_moves(call["input"]).target is fake_quantize,
        weight_quantized=weight is not None,
        weight=weight,
        k_axis=0 if operator == "MatMul" else 1,
        groups=1 if operator == "MatMul" else int(call["groups"]),
    )


def describe_attention(g: Lowering, node: fx.Node) -> AttentionNode:
    """What a softmax attention became."""
    call = Call(node)
    quantized = node.target is attention and call["probability_scale"] is not None
    planned: Kind = "int8" if quantized else _KINDS.get(call.type.dtype, "fp32")
    return AttentionNode(call.path, _name_of(g.made[node], "Softmax"), planned)


def _name_of(made: list[ir.Node], operator: str) -> str:
    return str(next(each.name for each in made if each.op_type == operator))


def _behind_moves(node: fx.Node) -> fx.Node:
    """What a value was before it was reshaped, permuted, cut or cast."""
    while node.target in _MOVES:
        node = node.all_input_nodes[0]
    return node
