"""`vitgraph doctor`: what is installed here, and what it can do."""

from __future__ import annotations

import os
import platform
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import typer

from vitgraph.threads import waiting
from vitgraph.tools.command import Answer, command
from vitgraph.tools.drawing import group, table

PACKAGES = (
    "torch", "torchvision", "timm", "transformers", "onnx", "onnx-ir", "onnxruntime", "openvino", "tensorrt-rtx-cu13-bindings",
    "tensorrt-rtx-cu13-libs", "tensorrt", "triton", "safetensors", "pillow", "numpy",
)  # fmt: skip


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor")(doctor)


def doctor() -> Answer:
    """Say what is installed, which engines can be built here, and what runs models."""
    packages = {name: _version(name) for name in PACKAGES}
    targets, backends = _targets(), _backends()
    machine = {
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads_wait": waiting(),
        "gpu": _gpu(),
        "driver": _driver(),
    }
    providers = _providers()
    data = {
        "vitgraph": _version("vitgraph"),
        "machine": machine,
        "packages": packages,
        "onnxruntime_providers": providers,
        "full_tensorrt": packages["tensorrt"] is not None,
        "targets": targets,
        "backends": backends,
    }
    here = [["vitgraph", str(data["vitgraph"])], *([key, str(value or "none")] for key, value in machine.items())]
    here += [[name, found or "not installed"] for name, found in packages.items()]
    here.append(["ONNX Runtime runs on", ", ".join(providers) or "nothing"])
    built = [[each["target"], "yes" if each["builds_here"] else "no", str(each["why"])] for each in targets]
    able = [[each["backend"], " and ".join(each["does"]), str(each["why"] or "yes")] for each in backends]
    tables = (["what", "here"], here), (["engine for", "built here", "why"], built), (["backend", "does", "here"], able)
    return Answer(data, group(*(table(columns, rows) for columns, rows in tables)))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _targets() -> list[dict[str, Any]]:
    """For each device: can its engine be built on this machine, and what would it be good for?"""
    from vitgraph.backends.tensorrt.backend import unbuildable_why
    from vitgraph.targets.target import all_targets

    found = list[dict[str, Any]]()
    for target in all_targets():
        why = unbuildable_why(target)
        builders = {flavour: builder.model_dump(mode="json") for flavour, builder in target.builders.items()}
        says = why or "; ".join(
            f"{flavour}: {b.role}" for flavour, b in target.builders.items() if b.builds_without_gpu
        )
        found.append({"target": target.name, "builds_here": why is None, "why": says, "builders": builders})
    return found


def _backends() -> list[dict[str, Any]]:
    """For each backend, those of other packages too: what it does, and why it can't do it here."""
    from vitgraph.backends import all_backends, load_backend
    from vitgraph.errors import InputError
    from vitgraph.runtime.backend import Backend, Builder

    found = list[dict[str, Any]]()
    for name, place in all_backends().items():
        try:
            backend = load_backend(name)
        except InputError as error:  # another package's
            found.append({"backend": name, "does": [], "why": str(error), "place": place})
            continue
        does = ["runs models"] if isinstance(backend, Backend) else []
        does += ["builds engines"] if isinstance(backend, Builder) else []
        found.append({"backend": name, "does": does, "why": backend.refusal(None), "place": place})
    return found


def _gpu() -> str | None:
    """The GPU torch sees."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _driver() -> str | None:
    """Of that GPU."""
    from vitgraph.runtime.cuda_card import driver_version, missing_card

    return None if missing_card() else driver_version()


def _providers() -> list[str]:
    """What ONNX Runtime can run on; empty where it is not installed."""
    try:
        runtime = cast(Any, import_module("onnxruntime"))
    except ImportError:
        return []
    return [str(name) for name in runtime.get_available_providers()]
