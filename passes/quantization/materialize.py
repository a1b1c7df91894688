"""Fold masks and weight quantizers into the constants that an engine holds.

Before:
    masked = vitgraph.mask.default(weight, keep)
    pair = vitgraph.fake_quantize.default(masked, scale, 0)
    y = aten.linear.default(x, pair, bias)

After:
    w = vitgraph.dequantize.default(weight_int8, scale, 0)    # weight_int8: i8, zeros where the mask has them
    y = aten.linear.default(x, w, bias)

Other formats alike: weight_int4 holds INT4 codes in bytes (the ONNX file packs them), weight_fp8 FP8 numbers.

Weights that are equal number for number become one constant, as in blocks that are run several times. The numbers are the same
bit for bit. After this the program no longer trains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from vitgraph.ir import dialect
from vitgraph.ir.calls import DequantizeCall, MaskCall, QuantizeCall, WeightedCall
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import LINEARS
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass


@dataclass(frozen=True)
class Materialize(Pass):
    """Masks become zeros, quantized weights constants of INT8 (or INT4, FP8) codes."""

    name: ClassVar[str] = "materialize"
    effect: ClassVar[Effect] = Effect.EXACT
    for_engine: ClassVar[bool] = True

    def run(self, program: Program, context: Context) -> None:
        """Fold every mask and every quantizer whose operand is a constant."""
        for node in program.calls(dialect.mask):
            call = MaskCall(node)
            weight, keep = program.constant(call.weight), program.constant(call.keep)
            if weight is None or keep is None:
                context.refuse(path_of(node), "the mask is on a computed value, not on a weight")
                continue
            constant = program.constant_node(node, f"{call.weight.target}_masked", dialect.mask(weight.detach(), keep))
            node.replace_all_uses_with(constant)
            program.graph.erase_node(node)
        for node in program.calls(dialect.fake_quantize):
            pair = QuantizeCall(node)
            weight, scale = program.constant(pair.data), program.constant(pair.scale)
            if weight is None or scale is None:
                continue  # an activation's: stays a pair
            axis, grid = pair.axis, pair.format
            codes = dialect.quantize_values(weight.detach(), scale, axis, grid.name)
            constant = program.constant_node(node, f"{pair.data.target}_{grid.name}", codes)
            new = program.insert(node, dialect.dequantize, *DequantizeCall.written(constant, pair.scale, axis, grid))
            node.replace_all_uses_with(new)
            program.graph.erase_node(node)
        _share_weights(program)


def _share_weights(program: Program) -> None:
    """Let equal weights be read from one constant: passes make a tensor for each linear, tied or not."""
    first = dict[tuple[str, str], fx.Node]()
    for reader, constant in _weights(program):
        known = first.setdefault(_content(program.tensor(str(constant.target))), constant)
        reader.replace_input_with(constant, known)


def _weights(program: Program) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Constants that are weights, or their codes and scales, each with what reads it, in order."""
    for node in program.calls(*LINEARS, dialect.dequantize):
        if node.target is dialect.dequantize:
            read: tuple[fx.Node, ...] = (DequantizeCall(node).codes, DequantizeCall(node).scale)
        else:
            read = (WeightedCall(node).weight,)
        yield from ((node, each) for each in read if each.op == "get_attr")


def _content(tensor: Tensor) -> tuple[str, str]:
    """The type and shape of a tensor, and a digest of its numbers."""
    numbers: Any = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{tensor.dtype}{list(tensor.shape)}", hashlib.sha256(numbers).hexdigest()
