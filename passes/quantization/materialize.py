"""Fold masks and weight quantizers into the constants that an engine holds.

Before:
    masked = vitgraph.mask.default(weight, keep)
    pair = vitgraph.fake_quantize.default(masked, scale, 0)
    y = aten.linear.default(x, pair, bias)

After:
    w = vitgraph.dequantize.default(weight_int8, scale, 0)    # weight_int8: i8, zeros where the mask has them
    y = aten.linear.default(x, w, bias)

Other formats alike: weight_int4 holds INT4 codes in bytes (the ONNX file packs them), weight_fp8 FP8 numbers.

The numbers are the same bit for bit. After this the program no longer trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vitgraph.ir import dialect
from vitgraph.ir.calls import DequantizeCall, MaskCall, QuantizeCall
from vitgraph.ir.navigate import path_of
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
