"""Type the graph: floating point in FP16 or BF16, quantized linears dequantized to FP32.

Before:
    xq = vitgraph.fake_quantize.default(x, x_scale, None)     # all f32
    y = aten.linear.default(xq, wq, b)
    z = aten.gelu.default(y)

After:
    x32 = aten.to.dtype(x, f32)                               # x is f16
    xq = vitgraph.fake_quantize.default(x32, x_scale, None)
    y = aten.linear.default(xq, wq, b)                        # f32: an INT32 accumulator fits, FP16 overflows at 65504
    y16 = aten.to.dtype(y, f16)
    z = aten.gelu.default(y16)

TensorRT 11 types graphs strongly, so the precision has to stand in the graph. The casts around an INT8 product cost no
kernel: they fold into the neighbours. Inputs and outputs of the program keep their types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import fx

from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.ir.call_arguments import argument, parameters, set_argument
from vitgraph.ir.calls import QuantizeCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import LINEARS, PAIRS, ROUNDS
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.precision.half_numbers import fit_numbers, fit_tensor, wide_operators, write_defaults
from vitgraph.targets.target import Target

_HALF = {"f16": torch.float16, "bf16": torch.bfloat16}
_WIDE = (torch.float32, torch.float64)
_TARGET_NAMES = {"f16": "fp16", "bf16": "bf16"}


@dataclass(frozen=True)
class AssignPrecision(Pass):
    """Compute in `to` everywhere but in quantized products and their quantizers, which stay FP32."""

    name: ClassVar[str] = "assign-precision"
    effect: ClassVar[Effect] = Effect.LOSSY
    for_engine: ClassVar[bool] = True
    floor_db: ClassVar[float] = 20.0
    under_floor: ClassVar[str] = "to=bf16 has a wider range, to=f32 loses nothing"

    to: Literal["auto", "f16", "bf16", "f32"] = "auto"
    """The type that everything else is computed in; auto is FP16, and FP32 where the target has no FP16 arithmetic."""
    linears: Literal["auto", "f32", "half"] = "auto"
    """What quantized products are dequantized to: FP32, or `to` itself; auto takes FP32 where the target multiplies it."""

    def check(self, target: Target | None, images: Images | None) -> None:
        """A type that the target has no arithmetic for."""
        super().check(target, images)
        if target is not None and self.to in _HALF and not target.supports_type(_TARGET_NAMES[self.to]):
            raise InputError(
                f"{target.name} has no {self.to} arithmetic; write to=auto, which is {self._type(target)} there"
            )

    def run(self, program: Program, context: Context) -> None:
        """Cast the weights and insert casts at the borders."""
        to = self._type(context.target) if self.to == "auto" else self.to
        if to == "f32":
            return
        half = _HALF[to]
        if any(_dtype(node) is half for node in program.calls()):
            context.refuse("model", f"it computes in {to} already")
            return
        if not context.take(self.name, "model"):
            return
        write_defaults(program)
        wide = wide_operators(program, half)
        for node, number in wide.items():
            context.refuse(path_of(node), f"{node.target} stays FP32: {to} can't hold {number:g}")
        island = {*wide, *(_island(program) if self._wide(context) else ())}
        halves = dict[str, fx.Node]()
        for node in list(program.graph.nodes):
            if node.op == "placeholder":
                _cast_after(program, node, half)
            elif node.op == "call_function" and node in island:
                _border(program, node, island, half, clip=node in wide)
            elif node.op == "call_function":
                _narrow(program, node, half, halves)
        _restore_output(program, island)

    def _type(self, target: Target | None) -> str:
        """What `auto` stands for."""
        return "f16" if target is None or target.supports_type("fp16") else "f32"

    def _wide(self, context: Context) -> bool:
        """Are quantized products dequantized to FP32?"""
        if self.linears != "auto":
            return self.linears == "f32"
        return context.target is None or context.target.supports_matmul("fp32")


def _dtype(node: fx.Node) -> torch.dtype | None:
    kind = node.meta["type"]
    return kind.dtype if isinstance(kind, TensorType) else None


def _is_floating(node: fx.Node) -> bool:
    dtype = _dtype(node)
    return dtype is not None and dtype.is_floating_point


def _island(program: Program) -> set[fx.Node]:
    """Quantized products, their quantizers and what dequantizes their weights: these stay FP32.

    Where a weight alone is quantized, the product is one in `to`, and so is what dequantizes it.
    """
    island = {pair for pair in program.calls(*PAIRS) if not _is_weight_alone(pair)}
    for node in program.calls(*LINEARS):
        data = WeightedCall(node).data
        weight: Any = WeightedCall(node).weight
        if QuantizeCall.views(data):
            island.add(node)
            while weight.op == "call_function":
                island.add(weight)
                weight = weight.args[0]
    return island


def _is_weight_alone(pair: fx.Node) -> bool:
    """Is this on a weight that only products with an input in floating point read?"""
    return all(
        user.target in LINEARS and (call := WeightedCall(user)).weight is pair and not QuantizeCall.views(call.data)
        for user in pair.users
    )


def _cast_after(program: Program, node: fx.Node, dtype: torch.dtype) -> None:
    """Every reader of `node` reads it cast."""
    if not _is_floating(node):
        return
    readers = list(node.users)
    cast = program.insert(node.next, aten.to.dtype, node, dtype, path=node.meta.get("path", ""))
    for reader in readers:
        reader.replace_input_with(node, cast)


def _border(program: Program, node: fx.Node, island: set[fx.Node], half: torch.dtype, clip: bool) -> None:
    """Cast what comes into the island to FP32, and what leaves it to half, with `clip` within its limits."""
    for source in list(node.all_input_nodes):
        if source.op == "call_function" and source not in island and _is_floating(source):
            node.replace_input_with(source, program.insert(node, aten.to.dtype, source, torch.float32))
    kept = (aten.to.dtype, "output")  # an output that is FP32 already stays so
    outside = [user for user in node.users if user not in island and user.target not in kept]
    if not outside or not _is_floating(node):
        return
    after, path, limit = node.next, node.meta.get("path", ""), torch.finfo(half).max
    value = program.insert(after, aten.clamp.default, node, -limit, limit, path=path) if clip else node
    cast = program.insert(after, aten.to.dtype, value, half, path=path)
    for user in outside:
        user.replace_input_with(node, cast)


def _narrow(program: Program, node: fx.Node, half: torch.dtype, halves: dict[str, fx.Node]) -> None:
    """Let an ordinary operator read half-precision copies of its weights; where it asks for FP32 it gets half."""
    fit_numbers(node, half)
    if parameters(node.target).get("dtype") is not None and argument(node, "dtype") in _WIDE:
        set_argument(node, "dtype", half)
    scale = argument(node, "scale") if node.target in PAIRS | ROUNDS else None
    for source in list(node.all_input_nodes):
        tensor = program.constant(source)
        if tensor is None or tensor.dtype != torch.float32:
            continue
        name = str(source.target)
        if name not in halves:
            first = next(iter(program.graph.nodes))
            trainable = isinstance(tensor, torch.nn.Parameter)
            halves[name] = program.constant_node(
                first, f"{name}_{_short(half)}", fit_tensor(tensor, half, lift=source is scale), trainable
            )
        node.replace_input_with(source, halves[name])


def _short(dtype: torch.dtype) -> str:
    return next(name for name, kind in _HALF.items() if kind is dtype)


def _restore_output(program: Program, island: set[fx.Node]) -> None:
    """The outputs keep the type they had."""
    output = program.output

    def restore(value: fx.Node) -> Any:
        wanted = value.meta["type"]
        if value in island or not isinstance(wanted, TensorType) or not wanted.dtype.is_floating_point:
            return value
        return program.insert(output, aten.to.dtype, value, wanted.dtype, path=value.meta.get("path", ""))

    output.args = fx.map_arg(output.args, restore)
