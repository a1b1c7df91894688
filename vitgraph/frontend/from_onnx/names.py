"""Names of modules and tensors out of an ONNX file: by the exporter's scopes, and fit for a program.

- torch's TorchScript exporter names a node after its module's scopes, `/blocks/blocks.0/attn/qkv/MatMul`;
- its newer exporter keeps them as metadata, `['', 'blocks', 'blocks.0', 'blocks.0.attn', 'linear']`;
- vitgraph writes `blocks.0.attn.qkv/MatMul`.
Others leave the names of weights, `blocks.0.attn.qkv.weight`.
"""

from __future__ import annotations

import keyword
import re
from typing import Any

from torch import fx

from vitgraph.ir.names import MAX_NAME, check_tensor_name
from vitgraph.ir.program import Program

_SCOPES = "pkg.torch.onnx.name_scopes"
_QUOTED = re.compile(r"'([^']{0,256})'")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
_MADE_UP = re.compile(r"onnx::|/|_?val_?\d|_inlfunc|ortshared|Constant|const|t?\d+$|.*[Qq]uant")
"""Names that exporters and optimizers make up for constants."""
_MODULE = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_WEIGHTS = ("weight", "bias", "gamma", "running_mean", "running_var")


def module_path(node: Any, ours: bool) -> str:
    """The dotted path of the module that a node comes from; empty where the file does not tell. `ours` is a file of vitgraph."""
    scopes = node.metadata_props.get(_SCOPES)
    if scopes:
        listed = _QUOTED.findall(scopes[:8192])
        return fit_path(listed[-2]) if len(listed) > 1 else ""
    name = str(node.name or "")
    if "/" in name:
        found = fit_path(_joined(name.strip("/").split("/")[:-1]))
        return "" if ours and found == "model" else found
    return _by_weight(node)


def _joined(scopes: list[str]) -> str:
    """`layers`, `layers.0`, `attn` as `layers.0.attn`: a scope that goes on with the one before stands for both."""
    kept = [
        scope
        for position, scope in enumerate(scopes)
        if position + 1 == len(scopes) or not scopes[position + 1].startswith(f"{scope}.")
    ]
    return ".".join(kept)


def _by_weight(node: Any) -> str:
    """The module of the first weight that a node reads."""
    for value in node.inputs:
        name = str(value.name) if value is not None and value.const_value is not None else ""
        holder, _, leaf = name.rpartition(".")
        if holder and leaf in _WEIGHTS and _MODULE.fullmatch(holder):
            return fit_path(holder)
    return ""


def fit_path(path: str) -> str:
    """A path of words that a program may have, joined by dots."""
    parts = [_UNFIT.sub("_", part).strip("_") or "_" for part in path.split(".") if part]
    return ".".join(_fit(part) for part in parts)[: MAX_NAME // 2].rstrip(".")


def _fit(part: str) -> str:
    """A word that is no keyword, and nothing that a module has already."""
    taken = keyword.iskeyword(part) or hasattr(fx.GraphModule, part) or (part.startswith("__") and part.endswith("__"))
    return f"{part.strip('_')}_" if taken or part in ("graph", "training") else part


class TensorNames:
    """Names of a program's tensors: the file's own where they are a module's, else made of module path and role."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._leaves = set[str]()

    def of(self, name: str, path: str, stem: str) -> str:
        """The name for a tensor; `name` is the file's, `stem` what it is to the module at `path`."""
        own = bool(name) and not _MADE_UP.match(name) and _MODULE.fullmatch(name) is not None
        wanted = fit_path(name) if own else f"{path}.{stem}" if path else stem
        found = self._free(wanted)
        try:
            return check_tensor_name(found)
        except ValueError:
            return self._free(stem)

    def _free(self, wanted: str) -> str:
        """The name, unless a tensor stands where it needs a module."""
        parts = wanted.split(".")
        holders = {".".join(parts[:length]) for length in range(1, len(parts))}
        if holders & self._leaves:
            wanted = wanted.replace(".", "_")
        self._leaves.add(wanted)
        return wanted
