"""A program as FP16 torch runs it: the same layers without quantization.

- Q/DQ pairs and quantizers of attention's probabilities are left out; weights are dequantized, and masked once
- `vitgraph.attention` is `scaled_dot_product_attention`, so that torch takes its fused kernel
- every floating type is FP16, those that the graph casts to among them

So it is no form of what a program computes: its weights are those of the program to within their rounding. It is there to be
timed, as the model would run if nobody had quantized it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir import dialect
from vitgraph.ir.call_arguments import argument, set_argument
from vitgraph.ir.calls import AttentionCall
from vitgraph.ir.program import Program

_CAST = torch.ops.aten.to.dtype
_ATTENTION: Any = torch.ops.aten.scaled_dot_product_attention.default
_QUANTIZERS = (dialect.fake_quantize, dialect.log2_quantize)


@dataclass(frozen=True)
class FloatForm:
    """The module in FP16, and what was left out of the program."""

    module: fx.GraphModule
    quantizers: int
    masks: int
    dequantized: int

    def told(self) -> str:
        """In a few words; empty where the program was in floating point."""
        parts = ((self.quantizers, "quantizers"), (self.dequantized, "codes of weights"), (self.masks, "masks"))
        return ", ".join(f"{count} {what}" for count, what in parts if count)


def float_form(program: Program) -> FloatForm:
    """A copy of the program in FP16, without quantization."""
    copy = program.copy()
    counts = dict[Any, int]()
    for node in copy.calls():
        replace = _replacement(node, copy)
        if replace is not None:
            counts[node.target] = counts.get(node.target, 0) + 1
            node.replace_all_uses_with(replace())
            copy.graph.erase_node(node)
        elif node.target is _CAST and argument(node, "dtype").is_floating_point:
            set_argument(node, "dtype", torch.float16)
    copy.clean()
    copy.own_tensors()  # what follows writes into them
    module = copy.module.half().eval()
    return FloatForm(
        module,
        sum(counts.get(each, 0) for each in _QUANTIZERS),
        counts.get(dialect.mask, 0),
        counts.get(dialect.dequantize, 0),
    )


def _replacement(node: fx.Node, program: Program) -> Callable[[], fx.Node] | None:
    """What makes the node that takes the place of this one; None where it stays."""
    if node.target in _QUANTIZERS:
        taken = node.args[0]
        return (lambda: taken) if isinstance(taken, fx.Node) else None
    if node.target is dialect.attention:
        return lambda: _sdpa(node, program)
    if node.target in (dialect.dequantize, dialect.mask):
        given = [program.constant(each) if isinstance(each, fx.Node) else each for each in node.args]
        return (lambda: _folded(node, program, given)) if isinstance(given[0], Tensor) else None
    return None


def _folded(node: fx.Node, program: Program, given: list[Any]) -> fx.Node:
    """The constant that a call on constants gives."""
    target: Any = node.target
    value: Tensor = target(*given, **node.kwargs)
    return program.constant_node(node, f"{node.name}_folded", value.to(torch.float32))


def _sdpa(node: fx.Node, program: Program) -> fx.Node:
    call = AttentionCall(node)
    with program.graph.inserting_before(node):
        found = program.graph.call_function(_ATTENTION, (call.q, call.k, call.v, call.bias), {"scale": call.scale})
    found.meta.update(path=node.meta.get("path", ""), type=node.meta.get("type"))
    return found
