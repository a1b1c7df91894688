"""What an engine is expected to hold, read off the program it is made of and the ONNX file in between."""

from __future__ import annotations

from vitgraph.analysis.attention import find_attentions
from vitgraph.backends.onnx.stored_weights import read_weights
from vitgraph.backends.tensorrt.engine_check import EnginePlan, PlannedAttention, PlannedLinear
from vitgraph.ir.mask_patterns import site_keys
from vitgraph.ir.program import Program
from vitgraph.runtime.onnx_model import AttentionNode, OnnxModel
from vitgraph.targets.target import Target


def plan_engine(program: Program, model: OnnxModel, target: Target) -> EnginePlan:
    """Every linear with the type it was planned in and its mask, every softmax attention with its kernel's type.

    An attention is excused from being one kernel only where it is no single operator, or the target has none for its sizes.
    """
    masks = program.masks
    weights = read_weights(model.path, floats=bool(masks))
    linears = tuple(
        PlannedLinear(
            linear.path,
            linear.node,
            linear.planned,
            weights.get(linear.node),
            masks.get(place),
        )
        for linear, place in zip(model.linears, site_keys(each.path for each in model.linears), strict=True)
    )
    excuses = _excuses(program, model, target)
    attentions = tuple(PlannedAttention(a.path, a.softmax, a.planned, excuses.get(a)) for a in model.attentions)
    return EnginePlan(linears, attentions)


def _excuses(program: Program, model: OnnxModel, target: Target) -> dict[AttentionNode, str]:
    """Why an attention can't be one kernel, where what it computes or its sizes are the reason."""
    sites = [site for site in find_attentions(program) if site.kind == "softmax"]
    found = dict[AttentionNode, str]()
    for attention, site in zip(model.attentions, sites, strict=True):
        why = site.operator_refusal
        if site.is_fused and target.attention(attention.planned) is not None:
            why = site.kernel_refusal(target, attention.planned)
        if why is not None:
            found[attention] = why
    return found
