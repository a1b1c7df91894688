"""Why plans can't be made for a target, or can't run on this machine: one line each."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitgraph.targets.target import Target

LEAST = (8, 0)
"""Ampere: the first whose tensor cores multiply 2:4 weights, and that has the matrix instructions of the kernels."""


def refusal_for(target: Target) -> str | None:
    """Why no plan can be made for a target; None where one can, on any machine."""
    if target.compute_capability is None:
        return f"{target.name} is no NVIDIA GPU; take a target that is one (`vitgraph targets`)"
    major, minor = map(int, target.compute_capability.split("."))
    return f"{_too_old(target.name, major, minor)}; take another target" if (major, minor) < LEAST else None


def refusal_here(device: str = "cuda") -> str | None:
    """Why no kernel can run here: no Triton, no GPU that it compiles for, or a driver too old for torch; else None."""
    import torch

    if find_spec("triton") is None:
        return "Triton is not installed; it comes with torch for CUDA on Linux"
    cuda: Any = torch.cuda
    if not cuda.is_available():
        return "no CUDA device is here, its driver is too old for torch, or torch has no CUDA; plans are built all the same"
    capability = cuda.get_device_capability(device)
    return _too_old("the GPU", *capability) if capability < LEAST else None


def _too_old(what: str, major: int, minor: int) -> str:
    return f"{what} is sm_{major}{minor}, and the kernels need sm_80 (Ampere) or later"
