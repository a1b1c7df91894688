"""From the file of an engine to what runs it; every reason why that can't be is one line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitgraph.backends.tensorrt.contract_file import read_contract
from vitgraph.backends.tensorrt.device_check import check_loaded
from vitgraph.backends.tensorrt.engine_runner import EngineRunner, Loaded
from vitgraph.backends.tensorrt.kernel_cache import CacheKey, read_kernels
from vitgraph.backends.tensorrt.plan_header import RTX_CAPABILITIES
from vitgraph.backends.tensorrt.runtime import EngineRuntime, import_bindings, installed_flavours
from vitgraph.errors import InputError
from vitgraph.reading import ENGINE, read_bytes
from vitgraph.runtime.accelerator import Card
from vitgraph.runtime.cuda_card import CudaCard, missing_card
from vitgraph.targets.capability import Flavour

PLAN, LISTING = "engine.plan", "engine.json"
_log = logging.getLogger("vitgraph")


def unrunnable_why() -> str | None:
    """Why no engine can run on this machine, whatever it was built for; None where one may."""
    import torch

    flavours = installed_flavours()
    if not flavours:
        return (
            "no TensorRT is installed; pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings, or full tensorrt"
        )
    if why := missing_card():
        return f"{why}; engines are built all the same"
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    if flavours == ("tensorrt_rtx",) and capability not in RTX_CAPABILITIES and float(capability) < 12:
        able = ", ".join(RTX_CAPABILITIES)
        return f"this GPU has compute capability {capability}, and TensorRT-RTX runs on {able}; full TensorRT is not installed"
    return None


def load_engine(path: Path, card: Card | None = None, bindings: Callable[[Flavour], Any] | None = None) -> EngineRunner:
    """The engine in a file, or in a compilation's folder, on the card (unless given, the GPU that torch takes).

    `InputError` where it can't run there: no GPU or driver, no runtime, not valid, no memory.
    """
    file = path / PLAN if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{path}: holds no {PLAN}; compile for a target that TensorRT builds for (`vitgraph doctor`)")
    plan = read_bytes(file, ENGINE)
    runtime = EngineRuntime.of(plan, str(file), bindings or import_bindings)
    card = card or CudaCard()
    facts = card.facts()
    if slower := runtime.check(plan, str(file), facts.compute_capability):
        _log.warning("%s", slower)
    engine = runtime.load(plan, str(file))
    check = check_loaded(runtime, engine, plan, read_contract(file.with_name(LISTING)))
    key = CacheKey.of(runtime.title, facts, plan)
    kernels = read_kernels(key) if runtime.captures_graphs else None
    return EngineRunner(Loaded(str(path), runtime, engine, check, key, kernels), card)
