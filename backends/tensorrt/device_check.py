"""An engine that was loaded, held to what was planned once more, and what its layers say that each site is computed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vitgraph.backends.tensorrt.engine import Engine, SparseTactics
from vitgraph.backends.tensorrt.engine_check import EnginePlan, judge_attentions, judge_linears
from vitgraph.backends.tensorrt.engine_layers import EngineLayer, parse_inspector_json
from vitgraph.backends.tensorrt.plan_header import judge_capability
from vitgraph.backends.tensorrt.runtime import EngineRuntime
from vitgraph.errors import VitgraphError
from vitgraph.runtime.backend import Violation

Contract = tuple[EnginePlan, tuple[str, ...]]
"""What was planned, and the capabilities that the plan was built for."""


@dataclass(frozen=True)
class DeviceCheck:
    """What the loaded engine's layers say."""

    layers: tuple[EngineLayer, ...] = ()
    violations: tuple[Violation, ...] = ()
    linears: tuple[tuple[str, str], ...] = ()
    """By module path, the type of its product; of those that were planned."""
    attentions: tuple[tuple[str, str], ...] = ()
    told: str = ""
    """Whether the check was done, in a few words, or why not."""

    def sites_of(self, layer: str) -> str:
        """The module paths that the layer of this name computes, with commas between."""
        found = next((each for each in self.layers if each.name == layer), None)
        return "" if found is None else ", ".join(found.modules)


def check_loaded(runtime: EngineRuntime, loaded: Any, plan: bytes, contract: Contract | None) -> DeviceCheck:
    """Read the loaded engine's layers and hold them to the contract; an inspector that tells none is told, and is no violation."""
    planned, capabilities = contract or (EnginePlan(), ())
    try:
        layers = parse_inspector_json(runtime.layers(loaded), "the inspector's answer")
    except (VitgraphError, RuntimeError, ValueError, TypeError) as error:
        layers, silent = (), str(error).partition("\n")[0]
    else:
        silent = "" if layers else "its inspector tells no layers"
    engine = _as_engine(runtime, plan, layers, capabilities)
    violations = judge_capability(engine)
    if contract is None:
        return DeviceCheck(layers, violations, told="not held to its plan: no engine.json with one lies beside it")
    if silent:
        return DeviceCheck(layers, violations, told=f"its layers are not held to its plan: {silent}")
    violations += (*judge_linears(engine, planned), *judge_attentions(engine, planned))
    linears = tuple((each.module, _type_of(engine, each.node)) for each in planned.linears)
    attentions = tuple((each.module, _type_of(engine, each.node)) for each in planned.attentions)
    return DeviceCheck(layers, violations, linears, attentions, f"{len(layers)} layers held to its plan")


def _type_of(engine: Engine, node: str) -> str:
    """What computes a node: its product or fused attention, else `unfused`."""
    products = [
        each for each in engine.layers_of(node) if each.is_gemm or each.is_convolution or each.is_fused_attention
    ]
    return products[0].compute_type if products else "unfused"


def _as_engine(
    runtime: EngineRuntime, plan: bytes, layers: tuple[EngineLayer, ...], capabilities: tuple[str, ...]
) -> Engine:
    return Engine(
        plan=plan,
        layers=layers,
        flavour=runtime.flavour,
        version=str(runtime.trt.__version__),
        compute_capabilities=capabilities,
        role="loaded",
        role_why="",
        build_seconds=0.0,
        log="",
        sparse=SparseTactics(None, None, ""),
    )
