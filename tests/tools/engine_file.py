"""An `engine.json` of two layers, as a builder's engine writes it."""

from typing import Any


def tensor(name: str) -> dict[str, Any]:
    """What a layer reads or writes."""
    return {"name": name, "dtype": "int8", "shape": [1, 4, 8]}


def layer(name: str, kind: str, modules: list[str]) -> dict[str, Any]:
    """A layer that reads one tensor and writes one."""
    return {
        "name": name, "kind": kind, "type": "int8" if kind == "gemm" else None, "fused_attention": False,
        "inputs": [tensor("x")], "constants": [], "outputs": [tensor("y")], "tactic": "stub",
        "nodes": [f"{each}/MatMul" for each in modules], "modules": modules,
    }  # fmt: skip


ENGINE: dict[str, Any] = {
    "flavour": "tensorrt", "version": "10.0", "compute_capabilities": ["8.7"], "role": "deployable", "role_why": "built there",
    "bytes": 1000, "gemm": {"int8": 1}, "fused_attention": {},
    "layers": [layer("myl_0", "gemm", ["blocks.0.fc1"]), layer("reformat", "copy", [])],
}  # fmt: skip
