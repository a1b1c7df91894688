"""The engine contract: what was planned for each site, held against the engine that was built.

A builder falls back without a word: a quantized linear may become an FP16 product with an INT8 input, an attention
may fall apart into products and a softmax, and neither is an error to it. Here each is a violation that names the site.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitgraph.backends.onnx.stored_weights import StoredWeight
from vitgraph.backends.tensorrt.engine import Engine
from vitgraph.backends.tensorrt.engine_layers import EngineLayer
from vitgraph.backends.tensorrt.plan_header import judge_capability
from vitgraph.errors import CheckFailed
from vitgraph.ir.packing import Packing
from vitgraph.runtime.backend import Violation

QUANTIZED = ("int8", "fp8")
"""What a quantized product may be planned in; INT4 weights are multiplied as INT8."""


@dataclass(frozen=True)
class PlannedLinear:
    """A linear site: its ONNX node, the type planned (int8, fp8, or floating point), the weight in the ONNX file where it is
    quantized or masked, and its mask's pattern."""

    module: str
    node: str
    type: str
    weight: StoredWeight | None = None
    masked: Packing | None = None


@dataclass(frozen=True)
class PlannedAttention:
    """An attention site: its ONNX softmax node, the type planned; `unfused_why` is set where no fused kernel is expected."""

    module: str
    node: str
    type: str
    unfused_why: str | None = None


@dataclass(frozen=True)
class EnginePlan:
    """What the engine should hold."""

    linears: tuple[PlannedLinear, ...] = ()
    attentions: tuple[PlannedAttention, ...] = ()


@dataclass(frozen=True)
class ContractReport:
    """All violations at once and the `engine` part of the report (design: report keys)."""

    violations: tuple[Violation, ...]
    engine: dict[str, Any]

    def require(self) -> None:
        """Raise CheckFailed naming every site where the contract is broken."""
        if not self.violations:
            return
        lines = "\n".join(f"  {violation}" for violation in self.violations)
        raise CheckFailed(f"the engine violates its contract at {len(self.violations)} site(s):\n{lines}")


def check_contract(engine: Engine, plan: EnginePlan) -> ContractReport:
    """Hold `engine` against `plan`; the report's `engine` has every key but those of a missing measurement."""
    fallback, attention = judge_linears(engine, plan), judge_attentions(engine, plan)
    weights, patterns = _judge_weights(engine, plan.linears), judge_patterns(plan)
    fallen = {violation.site for violation in fallback}
    fused = [site for site in plan.attentions if _fused(engine, site)]
    report = {
        "flavour": engine.flavour,
        "version": engine.version,
        "compute_capabilities": list(engine.compute_capabilities),
        "role": engine.role,
        "role_why": engine.role_why,
        "bytes": len(engine.plan),
        "build_seconds": engine.build_seconds,
        "layers": len(engine.layers),
        "linears": _count_linears(plan.linears, fallen),
        "gemm": engine.gemms(),
        "attention": {
            "sites": len(plan.attentions),
            "fused": len(fused),
            **{
                f"fused_{kind}": sum(_fused(engine, site) == kind for site in fused) for kind in _kinds(plan.attentions)
            },
        },
        "sparse": {
            **_count_masks(plan, patterns),
            "eligible": engine.sparse.eligible,
            "chosen": engine.sparse.chosen,
            "why": engine.sparse.why,
        },
    }
    return ContractReport((*fallback, *attention, *weights, *patterns, *judge_capability(engine)), report)


def judge_linears(engine: Engine, plan: EnginePlan) -> tuple[Violation, ...]:
    """The quantized linears that are not the products that were planned."""
    return tuple(violation for linear in plan.linears for violation in _judge_linear(engine, linear))


def judge_attentions(engine: Engine, plan: EnginePlan) -> tuple[Violation, ...]:
    """The attentions that are not the kernels that were planned."""
    return tuple(violation for site in plan.attentions for violation in _judge_attention(engine, site))


def _kinds(sites: Iterable[PlannedLinear | PlannedAttention]) -> list[str]:
    """INT8, and what else of `QUANTIZED` was planned."""
    planned = {site.type for site in sites}
    return [kind for kind in QUANTIZED if kind == "int8" or kind in planned]


def judge_patterns(plan: EnginePlan) -> tuple[Violation, ...]:
    """The masked linears whose weight in the ONNX file is denser than their pattern; no engine is asked."""
    return tuple(
        Violation(linear.module, f"{linear.masked} along K in the ONNX file", found, "the mask was lost on the way")
        for linear in plan.linears
        if linear.masked is not None
        for found in (["no constant"] if linear.weight is None else ["denser"])
        if linear.weight is None or not linear.weight.follows(linear.masked)
    )


def _count_masks(plan: EnginePlan, broken: Iterable[Violation]) -> dict[str, Any]:
    """How many linears are masked, how many of them keep their pattern in the ONNX file, and which patterns there are."""
    patterns = [linear.masked for linear in plan.linears if linear.masked is not None]
    gathering = sorted({str(pattern) for pattern in patterns if pattern.v > 1})
    why = f"no kernel of TensorRT gathers columns: {', '.join(gathering)} runs dense" if gathering else None
    return {
        "masked": len(patterns),
        "held": len(patterns) - len(list(broken)),
        "patterns": dict(Counter(map(str, patterns))),
        "dense_why": why,
    }


def _count_linears(linears: Iterable[PlannedLinear], fallen: set[str]) -> dict[str, Any]:
    """How many were planned and kept in each format (INT8 always, others where planned), and which fell back."""
    quantized = [linear for linear in linears if linear.type in QUANTIZED]
    counts = dict[str, Any]()
    for kind in _kinds(quantized):
        planned = [linear for linear in quantized if linear.type == kind]
        counts |= {f"planned_{kind}": len(planned), kind: sum(linear.module not in fallen for linear in planned)}
    return {**counts, "fallback": [linear.module for linear in quantized if linear.module in fallen]}


def _judge_linear(engine: Engine, linear: PlannedLinear) -> Iterable[Violation]:
    if linear.type not in QUANTIZED:
        return
    layers = engine.layers_of(linear.node)
    products = [layer for layer in layers if layer.is_gemm or layer.is_convolution]
    if products and all(layer.compute_type == linear.type for layer in products):
        return
    culprits = [layer for layer in products if layer.compute_type != linear.type] or list(layers)
    yield Violation(linear.module, f"{linear.type} gemm", _describe(culprits), _why_fallen(culprits))


def _why_fallen(culprits: list[EngineLayer]) -> str:
    if not culprits:
        return "the builder's report does not mention this node; was it folded away or renamed?"
    if any(layer.kind == "runtime_fusion" and "int8" in [t.dtype for t in layer.inputs] for layer in culprits):
        return "slices hoisted through the product into its weight; put Q/DQ on its output or dequantize in FP32"
    if not any(layer.is_gemm or layer.is_convolution for layer in culprits):
        return "computed inside a generated kernel, not as a product; one row of input is too few"
    return "an operand is not quantized, or its scales lie along K"


def _fused(engine: Engine, site: PlannedAttention) -> str | None:
    """The type of the fused kernel that computes the site's softmax, or None."""
    return next((layer.compute_type for layer in engine.layers_of(site.node) if layer.is_fused_attention), None)


def _judge_attention(engine: Engine, site: PlannedAttention) -> Iterable[Violation]:
    if site.unfused_why is not None:
        return
    planned = f"one fused {site.type} attention"
    found = _fused(engine, site)
    if found == site.type or (found == "fp32" and site.type not in QUANTIZED):
        return  # a kernel for one query casts what it reads by itself, and shows FP32 at its edge
    if found is not None:
        why = (
            "Q/DQ is needed on q, k, softmax, v and the output alike"
            if site.type == "int8"
            else "see its Q/DQ and casts"
        )
        yield Violation(site.module, planned, f"one fused {found} attention", why)
        return
    layers = engine.layers_of(site.node)
    yield Violation(site.module, planned, f"unfused: {_describe(layers)}", _why_unfused(site, layers))


def _why_unfused(site: PlannedAttention, layers: Iterable[EngineLayer]) -> str:
    if site.type == "int8":
        return "INT8 needs Q/DQ on q, k, softmax, v and output, and sizes that the target's file lists"
    if any(tensor.dtype == "fp32" for layer in layers for tensor in layer.inputs):
        return "its tensors are FP32, for which there is no fused kernel; cast them to FP16 or BF16"
    return "part of it is quantized, a bias is left unfolded, or its head dim or token count has no kernel"


def _merged(engine: Engine, linears: Iterable[PlannedLinear]) -> dict[str, list[PlannedLinear]]:
    """Linears that the builder computes in one product (q, k and v of one input), by node, in the product's order."""
    planned = {linear.node: linear for linear in linears if linear.weight is not None}
    found = dict[str, list[PlannedLinear]]()
    for layer in engine.layers:
        together = [planned[node] for node in layer.nodes if node in planned] if layer.is_gemm else []
        if len(together) > 1:
            found |= {linear.node: together for linear in together}
    return found


def _stored(linear: PlannedLinear, together: list[PlannedLinear]) -> bytes:
    """The bytes to look for: the weight's own, or of the weights `[K, N]` side by side."""
    if linear.weight is None:
        return b""
    weights = [each.weight.values for each in together if each.weight is not None]
    alike = len({weight.shape[0] for weight in weights}) == 1 and all(weight.ndim == 2 for weight in weights)
    if len(weights) < 2 or not alike:
        return linear.weight.packed(linear.weight.values)
    return linear.weight.packed(np.concatenate(weights, axis=1))


def _turned(linear: PlannedLinear) -> bytes:
    """The weight as a product of one row stores it: `[N, K]`."""
    return b"" if linear.weight is None else linear.weight.packed(np.ascontiguousarray(linear.weight.values.T))


def _padded(linear: PlannedLinear) -> bytes:
    """The weight `[K, N]` as a product with an odd number of outputs stores it: with a column of zeros."""
    if linear.weight is None or linear.weight.values.ndim != 2:
        return b""
    missing = linear.weight.values.shape[1] % 2
    return linear.weight.packed(np.pad(linear.weight.values, ((0, 0), (0, missing))))


def _judge_weights(engine: Engine, linears: tuple[PlannedLinear, ...]) -> list[Violation]:
    plan, merged = engine.plan, _merged(engine, linears)
    violations: list[Violation] = []
    last = len(plan)
    for linear in linears:
        if linear.type not in QUANTIZED:
            continue
        if linear.weight is None or not linear.weight.quantized:
            planned = f"an {linear.type.upper()} constant in the ONNX file"
            violations.append(Violation(linear.module, planned, "none", "not materialized"))
            continue
        if linear.weight.convolution:
            continue
        stored = _stored(linear, merged.get(linear.node, [linear]))
        # The plan keeps weights in the reverse order of the graph, so most are found next to the one before.
        at = plan.rfind(stored, 0, last)
        at = plan.find(stored) if at < 0 else at
        at = plan.find(_turned(linear)) if at < 0 else at
        at = plan.find(_padded(linear)) if at < 0 else at
        if at < 0:
            why = "the builder changed the weight: dequantized or stored in another form"
            planned = f"its {linear.weight.format.upper()} weight byte for byte in the plan"
            violations.append(Violation(linear.module, planned, "not there", why))
            continue
        last = at
    return violations


def _describe(layers: Iterable[EngineLayer]) -> str:
    return "; ".join(f"{layer.kind} {layer.name} ({layer.types()})" for layer in layers) or "no layer"
