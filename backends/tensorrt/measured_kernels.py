"""Which linears a builder took sparse kernels for: evidence that a mask buys time, from a device where both were timed.

Read from the layers of an engine that full TensorRT built: `engine.json` of a compilation there, or what
`trtexec --profilingVerbosity=detailed --exportLayerInfo=layers.json` wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitgraph.backends.tensorrt.engine import RTX_SPARSE_WHY
from vitgraph.backends.tensorrt.engine_layers import parse_inspector_json
from vitgraph.errors import InputError, VitgraphError
from vitgraph.reading import ENGINE_REPORT, parse_json, read_text

_SPARSE = re.compile(r"sparse|sptensor|spmma", re.IGNORECASE)
"""What the names of sparse kernels have in TensorRT's library: `…_sparse_gemm_i8i8_…`, `…sptensor16x8x64…`."""


def read_measured_layers(path: Path) -> dict[str, str | None]:
    """By module path of each product with a named kernel: that kernel where it is sparse, or None.

    `path` is such a file, or a compilation's folder. Raises `InputError` where it is not, or says nothing about kernels.
    """
    file = path / "engine.json" if path.is_dir() else path
    text, origin = read_text(file, ENGINE_REPORT), f"--measured {file}"
    try:
        found = dict(_own(parse_json(text, origin, nan=True)) if '"layers"' in text else _inspected(text, origin))
    except (ValueError, KeyError, TypeError, AttributeError, VitgraphError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"--measured {path}: no measured times and no engine's layers in it ({error}); give measured.json, engine.json, or the layers.json of trtexec"
        ) from error
    if not found:
        raise InputError(
            f"--measured {path}: none of its layers names a kernel; build with detailed profiling verbosity"
        )
    return found


def _own(engine: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    if engine["flavour"] == "tensorrt_rtx":
        raise InputError(f"--measured: {RTX_SPARSE_WHY}; give an engine that full TensorRT built on the device")
    for layer in engine["layers"]:
        if layer["type"] and not layer["fused_attention"] and layer["tactic"]:
            yield from ((module, _sparse(layer["tactic"])) for module in layer["modules"])


def _inspected(text: str, origin: str) -> Iterator[tuple[str, str | None]]:
    for layer in parse_inspector_json(text, origin):
        if (layer.is_gemm or layer.is_convolution) and layer.tactic:
            yield from ((module, _sparse(layer.tactic)) for module in layer.modules)


def _sparse(tactic: str) -> str | None:
    return tactic if _SPARSE.search(tactic) else None
