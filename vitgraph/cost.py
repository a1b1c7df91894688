"""What a program costs, counted: parameters, multiply-accumulates, bit operations, stored bytes.

A product of M×K by K×N is M·K·N multiply-accumulates; a bit operation count is that times the bits of both operands.
A zero is a weight of a product that a mask or the constant itself holds at zero. These are counts, not predictions of time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from vitgraph import dialect
from vitgraph.program import Program
from vitgraph.sites import weight_of
from vitgraph.tensor_type import Dim, Size, TensorType

aten = torch.ops.aten


@dataclass(frozen=True)
class Cost:
    """Counts for one image; report key `cost`."""

    parameters: int
    nonzero_parameters: int
    macs: int
    nonzero_macs: int
    bit_operations: int
    dense_fp32_bytes: int
    stored_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The report's form; latency is not estimated here, and the report says why."""
        ratio = round(self.dense_fp32_bytes / self.stored_bytes, 4) if self.stored_bytes else None
        return {
            "parameters": self.parameters,
            "nonzero_parameters": self.nonzero_parameters,
            "macs": self.macs,
            "nonzero_macs": self.nonzero_macs,
            "bit_operations": self.bit_operations,
            "weight_bytes": {"dense_fp32": self.dense_fp32_bytes, "stored": self.stored_bytes, "ratio": ratio},
            "estimated_ms": None,
            "estimated_ms_why": "no latency model yet; measure with `vitgraph bench`, or on the device",
        }


def count(program: Program, weights: Program | None = None) -> Cost:
    """Count a program; `weights` is the program before compilation, whose FP32 weights are the dense size."""
    macs = nonzero = bits = 0
    for node in program.calls():
        counter = _MACS.get(node.target)
        if counter is None:
            continue
        dense, density = counter(program, node)
        macs += dense
        nonzero += round(dense * density)
        bits += round(dense * density) * _bits(node.args[0]) * _bits(node.args[1])
    parameters = sum(t.numel() for t in (weights or program).tensors().values() if isinstance(t, torch.nn.Parameter))
    products = program.calls(aten.linear.default, aten.conv2d.default, aten.conv1d.default)
    sources = {weight_of(node) for node in products if weight_of(node).op == "get_attr"}
    zeros = sum(program.tensor(str(source.target)).numel() - _nonzeros(program, source) for source in sources)
    return Cost(parameters, parameters - zeros, macs, nonzero, bits, 4 * parameters, _stored(program))


def _nonzeros(program: Program, node: fx.Node) -> int:
    tensor = program.tensor(str(node.target))
    masks = [user for user in node.users if user.target is dialect.mask]
    if masks:
        return int(program.tensor(str(masks[0].args[1].target)).sum())  # type: ignore[union-attr]
    bits = tensor.view(torch.uint8) if tensor.dtype == torch.float8_e4m3fn else tensor  # no FP8 kernel counts
    return int(bits.count_nonzero())


def _stored(program: Program) -> int:
    """Bytes of all constants as the ONNX file has them; 2:4 packing is the engine's business and not counted."""
    int4 = {pair.args[0].target for pair in program.calls(dialect.dequantize) if dialect.format_of(pair).name == "int4"}  # type: ignore[union-attr]
    sizes = {name: t.numel() * t.element_size() for name, t in program.tensors().items() if t.dtype != torch.bool}
    return sum(-(-size // 2) if name in int4 else size for name, size in sizes.items())


def _at_one(sizes: tuple[Size, ...]) -> list[int]:
    return [size.at(1) if isinstance(size, Dim) else size for size in sizes]


def _product(sizes: list[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def _shape(value: Any) -> list[int]:
    kind = value.meta["type"]
    return _at_one(kind.shape) if isinstance(kind, TensorType) else []


def _weighted(program: Program, node: fx.Node) -> tuple[int, float]:
    """A product with a weight: outputs times the weight's elements per output channel."""
    weight, out = node.args[1], _shape(node)
    kernel = _shape(weight)
    macs = _product(out) * _product(kernel[1:])
    source = weight_of(node)
    if source.op != "get_attr":
        return macs, 1.0
    return macs, _nonzeros(program, source) / max(1, _product(kernel))


def _matmul(program: Program, node: fx.Node) -> tuple[int, float]:
    return _product(_shape(node)) * _shape(node.args[0])[-1], 1.0


def _attention(program: Program, node: fx.Node) -> tuple[int, float]:
    q, k, v = (_shape(arg) for arg in node.args[:3])
    return _product(q[:-1]) * k[-2] * (q[-1] + v[-1]), 1.0


_MACS: dict[Any, Callable[[Program, fx.Node], tuple[int, float]]] = {
    aten.linear.default: _weighted,
    aten.conv2d.default: _weighted,
    aten.conv1d.default: _weighted,
    aten.matmul.default: _matmul,
    dialect.attention: _attention,
    aten.scaled_dot_product_attention.default: _attention,
}


def _bits(value: Any) -> int:
    """Bits of one operand: those of the format behind a quantizer (also behind views of one), else its type's."""
    node = value
    while isinstance(node, fx.Node) and node.op == "call_function":
        if node.target in (dialect.fake_quantize, dialect.dequantize):
            return dialect.format_of(node).bits
        if node.target not in (
            aten.reshape.default,
            aten.permute.default,
            aten.select.int,
            aten.slice.Tensor,
            aten.to.dtype,
            dialect.mask,
        ):
            break
        node = node.args[0]
    dtype = value.meta["type"].dtype
    return torch.empty((), dtype=dtype).element_size() * 8
