"""Make every softmax attention one node, whether it was a fused call or written by hand.

Before:
    scores = aten.matmul.default(q, kt)                       # kt is k with its last two dimensions swapped
    scaled = aten.mul.Tensor(scores, 0.125)
    biased = aten.add.Tensor(scaled, bias)                    # position bias, window mask: any number of them
    probabilities = aten.softmax.int(biased, -1)
    out = aten.matmul.default(probabilities, v)

After:
    out = vitgraph.attention.default(q, k, v, bias, 0.125)

The same comes of `aten.scaled_dot_product_attention`, and of vᵀ probabilitiesᵀ, with a permute at its end. A factor per head
(cosine attention) moves into q; what is added under another view of the scores (masks of shifted windows, positions by height
and width) is brought to the scores' own shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from vitgraph.analysis.attention import find_attentions, find_joined_products
from vitgraph.ir import dialect
from vitgraph.ir.calls import SdpaCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.attention_operands import absorb_factors, is_stack, own_heads, stacked, swap_last, unstacked
from vitgraph.passes.attention_scores import Mismatch, Scores


@dataclass(frozen=True)
class FuseAttention(Pass):
    """softmax(scale q kᵀ + bias) v becomes `vitgraph.attention`."""

    name: ClassVar[str] = "fuse-attention"
    effect: ClassVar[Effect] = Effect.REORDERS

    def run(self, program: Program, context: Context) -> None:
        """Fuse calls first, then what is written by hand; a softmax that doesn't fit is refused with the reason."""
        for node in program.calls(aten.scaled_dot_product_attention.default):
            if why := _why_no_operator(SdpaCall(node)):
                context.refuse(path_of(node), why)
            elif context.take(self.name, path_of(node)):
                _replace(program, node, _read_call(program, node))
        refused = {site.node: site.operator_refusal for site in find_attentions(program)}
        for node in program.calls(aten.softmax.int):
            try:
                out, parts = Scores(program, node).match()
            except Mismatch as why:
                context.refuse(path_of(node), refused.get(node) or str(why))
                continue
            if context.take(self.name, path_of(node)):
                _replace(program, out, parts.build(out), parts.swapped)
        _refuse_others(program, context)


def _refuse_others(program: Program, context: Context) -> None:
    """Say what looks like an attention and has no softmax that could be fused."""
    for site in find_attentions(program):
        if site.kind == "other":
            joined = ", ".join(site.activations)
            context.refuse(site.path, f"its products are joined by {joined}, not by a softmax")
    for node, between in find_joined_products(program):
        if "softmax" not in between:  # said at the softmax
            context.refuse(
                path_of(node), f"its products are joined by {', '.join(between)}: no attention that is known"
            )


def _why_no_operator(call: SdpaCall) -> str | None:
    """Why a fused call has no place in `vitgraph.attention`, or None."""
    if call.is_grouped:
        return "grouped-query attention has fewer keys than queries"
    sizes = (each.meta["type"].shape[-2] for each in call.operands[:2])
    if call.is_causal and any(isinstance(size, Dim) for size in sizes):
        return "its causal mask is as large as the batch, which is not known"
    return None


def _replace(program: Program, out: fx.Node, operands: tuple[Any, ...], swapped: bool = False) -> None:
    q, k, v, *rest = operands
    k, v = own_heads(program, q, k, out), own_heads(program, q, v, out)
    flat = all(is_stack(each) for each in (q, k, v))
    if flat:
        q, k, v = (stacked(program, each, out) for each in (q, k, v))
    new = program.insert(out, dialect.attention, q, k, v, *rest)
    new = swap_last(program, new, out) if swapped else new
    new = unstacked(program, new, out) if flat else new
    out.replace_all_uses_with(new)
    program.graph.erase_node(out)


def _read_call(program: Program, node: fx.Node) -> tuple[Any, ...]:
    call = SdpaCall(node)
    q, k, v = call.operands
    mask, dtype = call.bias, q.meta["type"].dtype
    if call.is_causal:
        tokens, keys = q.meta["type"].shape[-2], k.meta["type"].shape[-2]
        future = torch.full((tokens, keys), -math.inf, dtype=dtype).triu(1)
        mask = program.constant_node(node, f"{path_of(node)}.causal_mask", future)
    elif mask is not None and mask.meta["type"].dtype == torch.bool:
        zero = program.insert(node, aten.mul.Tensor, program.insert(node, aten.to.dtype, mask, dtype), 0.0)
        masked = program.insert(node, aten.logical_not.default, mask)
        mask = program.insert(node, aten.masked_fill.Scalar, zero, masked, -math.inf)
    scale = 1 / math.sqrt(q.meta["type"].shape[-1]) if call.scale is None else call.scale
    return absorb_factors(q, k, v, mask, scale)
