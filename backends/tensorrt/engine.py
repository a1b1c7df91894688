"""A built engine and what was learnt while building it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from vitgraph.backends.tensorrt.engine_layers import EngineLayer

GEMM_TYPES = ("int8", "fp16", "bf16", "fp32")
RTX_SPARSE_WHY = "TensorRT-RTX picks sparse kernels when the engine first runs; its builder reports none"
_FOUND = re.compile(r"\(Sparsity\) Found (\d+) layer")
_CHOSE = re.compile(r"\(Sparsity\) Chose (\d+) layer")


@dataclass(frozen=True)
class SparseTactics:
    """What the builder said about sparse kernels: layers eligible and chosen, null with the reason where it said nothing."""

    eligible: int | None
    chosen: int | None
    why: str


@dataclass(frozen=True)
class Engine:
    """A serialized engine with its layers; `role` says whether it is the one to deploy (see Target.builders)."""

    plan: bytes = field(repr=False)
    layers: tuple[EngineLayer, ...] = field(repr=False)
    flavour: str
    version: str
    compute_capabilities: tuple[str, ...]
    role: str
    role_why: str
    build_seconds: float
    log: str = field(repr=False)
    sparse: SparseTactics

    def gemms(self) -> dict[str, int]:
        """Matrix products (convolutions and fused attention apart) by the type they are computed in."""
        counts = Counter(layer.compute_type for layer in self.layers if layer.is_gemm)
        return {kind: counts[kind] for kind in (*GEMM_TYPES, *sorted(set(counts) - set(GEMM_TYPES)))}

    def fused_attentions(self) -> dict[str, int]:
        """Fused attention kernels by the type they are computed in."""
        return dict(Counter(layer.compute_type for layer in self.layers if layer.is_fused_attention))

    def layers_of(self, node: str) -> tuple[EngineLayer, ...]:
        """The layers that compute (a part of) the ONNX node called `node`."""
        return tuple(layer for layer in self.layers if node in layer.nodes)

    def as_json(self) -> dict[str, Any]:
        """The content of `engine.json`: how it was built and every layer, no plan bytes and no times."""
        return {
            "flavour": self.flavour,
            "version": self.version,
            "compute_capabilities": list(self.compute_capabilities),
            "role": self.role,
            "role_why": self.role_why,
            "bytes": len(self.plan),
            "gemm": self.gemms(),
            "fused_attention": self.fused_attentions(),
            "layers": [layer.as_json() for layer in self.layers],
        }


def read_sparse_tactics(messages: Iterable[str], flavour: str) -> SparseTactics:
    """Read the builder's last pair of `(Sparsity)` lines; null counts with a reason where there is none.

    >>> read_sparse_tactics(["(Sparsity) Found 39 layer(s) eligible", "(Sparsity) Chose 0 layer(s)"], "tensorrt").chosen
    0
    """
    found = chosen = None
    for message in messages:
        if match := _FOUND.search(message):
            found = int(match[1])
        if match := _CHOSE.search(message):
            chosen = int(match[1])
    if found is None and chosen is None:
        why = RTX_SPARSE_WHY if flavour == "tensorrt_rtx" else "the builder's log has no (Sparsity) line"
        return SparseTactics(None, None, why)
    return SparseTactics(found, chosen, "the builder's last (Sparsity) lines")
