"""Leave only what the target's builder can take; say what it will not fuse.

Before:
    y = aten.rms_norm.default(x, [64], weight, 1e-06)         # no such operator in ONNX 20

After:
    squared = aten.mul.Tensor(x, x)
    mean = aten.mean.dim(squared, [-1], True)
    shifted = aten.add.Tensor(mean, 1e-06)
    inverse = aten.rsqrt.default(shifted)
    normed = aten.mul.Tensor(x, inverse)
    y = aten.mul.Tensor(normed, weight)

A scale too small for the builder is raised to the smallest it takes; an attention without a fused kernel on the target is
recorded with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx

from vitgraph.analysis.sites import find_sites
from vitgraph.ir.call_arguments import argument, set_argument
from vitgraph.ir.calls import AttentionCall, RmsNormCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import PAIRS, ROUNDS
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass

SMALLEST_SCALE = 2.0**-24
"""The smallest positive FP16 number: a scale below it becomes zero in a half-precision graph, which the builder refuses."""

_KINDS = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Legalize(Pass):
    """Decompose what ONNX lacks, lift scales that are too small, record attentions that won't fuse."""

    name: ClassVar[str] = "legalize"
    effect: ClassVar[Effect] = Effect.REORDERS
    for_engine: ClassVar[bool] = True

    def run(self, program: Program, context: Context) -> None:
        """Rewrite; nothing is refused that the builder can take unfused."""
        for node in program.calls(aten.rms_norm.default):
            _decompose_rms_norm(program, node)
        for node in program.calls(*PAIRS, *ROUNDS):
            _lift_scale(program, node)
        if context.target is None or not context.target.attention_kernels:
            return
        for site in find_sites(program).fused_attentions:
            kind = "int8" if AttentionCall(site.node).is_rounded else _KINDS[_dtype(site.node)]
            why = site.kernel_refusal(context.target, kind)
            if why is not None:
                context.refuse(site.path, f"its attention will not be one kernel: {why}")


def _dtype(node: fx.Node) -> torch.dtype:
    return node.meta["type"].dtype  # type: ignore[no-any-return]


def _decompose_rms_norm(program: Program, node: fx.Node) -> None:
    norm = RmsNormCall(node)
    x, rank = norm.data, norm.data.meta["type"].rank
    dims = list(range(rank - len(norm.sizes), rank))
    small = norm.added
    half = _dtype(node) in (torch.float16, torch.bfloat16)
    if half:  # a square overflows FP16 from 256 on
        x = program.insert(node, aten.to.dtype, x, torch.float32)
    squared = program.insert(node, aten.mul.Tensor, x, x)
    mean = program.insert(node, aten.mean.dim, squared, dims, True)
    inverse = program.insert(node, aten.rsqrt.default, program.insert(node, aten.add.Tensor, mean, small))
    result = program.insert(node, aten.mul.Tensor, x, inverse)
    if half:
        result = program.insert(node, aten.to.dtype, result, _dtype(node))
    if norm.weight is not None:
        result = program.insert(node, aten.mul.Tensor, result, norm.weight)
    node.replace_all_uses_with(result)
    program.graph.erase_node(node)


def _lift_scale(program: Program, node: fx.Node) -> None:
    stored = argument(node, "scale")
    scale = program.constant(stored)
    if scale is None or bool((scale >= SMALLEST_SCALE).all()):
        return
    lifted = program.constant_node(node, f"{stored.target}_lifted", scale.clamp(min=SMALLEST_SCALE))
    set_argument(node, "scale", lifted)
