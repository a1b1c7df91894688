"""Weights from a file into a module: read without pickle, unwrapped, checked key by key, hashed.

`.safetensors` is read as it is; `.pth`, `.pt` and `.bin` only through `torch.load(weights_only=True)`, which runs no
code from the file.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.reading import WEIGHTS, check_file

StateDict = dict[str, Tensor]
Convert = Callable[[StateDict, nn.Module], object]
"""Brings a file written under other names, or for another image size, to the module's own; may fail on any other."""
# What training scripts wrap a state dict in, outermost first: an averaged copy is preferred to the raw one.
_CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "module", "params")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_NAMED = 4


@dataclass(frozen=True)
class Misfit:
    """How a state dict differs from a module: keys it lacks, keys it has too many, keys of another shape."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    common: int

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.missing or self.unexpected or self.reshaped)


def read_weights(path: Path) -> StateDict:
    """Read a weights file into a flat state dict on the CPU; raise InputError where it is absent, corrupt or no weights."""
    check_file(path, WEIGHTS)
    if path.stat().st_size == 0:
        raise InputError(f"weights {path}: the file is empty; fetch it again")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pth", ".pt", ".bin"):
        return _unwrap(_read_pickled(path), path)
    raise InputError(f"weights {path}: the ending {path.suffix!r} is unknown; use .safetensors, .pth, .pt or .bin")


def load_weights(module: nn.Module, state: StateDict, path: Path, convert: Convert | None = None) -> None:
    """Load `state` into `module`, every key; raise InputError that counts and names what does not fit."""
    fitted = adapt(module, state, convert)
    if compare(module, fitted):
        raise InputError(describe_misfit(module, fitted, path))
    sick = [key for key, tensor in fitted.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if sick:
        raise InputError(
            f"weights {path}: {len(sick)} tensors hold NaN or infinity ({_first(sick)}); train or fetch again"
        )
    module.load_state_dict(fitted)


def strip_prefix(module: nn.Module, state: StateDict) -> StateDict:
    """Take off the prefixes that wrappers such as DataParallel put before every key, where the model has them not."""
    stripped = state
    while prefix := next((p for p in _PREFIXES if stripped and all(key.startswith(p) for key in stripped)), None):
        stripped = {key.removeprefix(prefix): tensor for key, tensor in stripped.items()}
        if compare(module, stripped).common > compare(module, state).common:
            return stripped
    return state


def adapt(module: nn.Module, state: StateDict, convert: Convert | None = None) -> StateDict:
    """Rename and resize `state` by the source's own rules, where it does not fit as it is and fits whole after."""
    if convert is None or not compare(module, state):
        return state
    try:
        converted = _as_state_dict(convert(dict(state), module))
    except Exception:  # noqa: BLE001 - written for its own family's files: on another's it may fail in any way
        return state
    return state if converted is None or compare(module, converted) else converted


def compare(module: nn.Module, state: Mapping[str, Tensor]) -> Misfit:
    """List the keys in which `state` differs from the module's own state dict."""
    own: Mapping[str, Tensor] = module.state_dict()
    return Misfit(
        missing=tuple(key for key in own if key not in state),
        unexpected=tuple(key for key in state if key not in own),
        reshaped=tuple(key for key, tensor in own.items() if key in state and state[key].shape != tensor.shape),
        common=sum(key in state for key in own),
    )


def infer_classes(module: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Read the number of classes from the file's head; None unless linear layers differ, in their output size alone.

    A model of another width differs in its inner linear layers' input size too, and gives None.
    """
    own: Mapping[str, Tensor] = module.state_dict()
    reshaped = compare(module, state).reshaped
    of_linears = [key for key in reshaped if isinstance(module.get_submodule(key.rpartition(".")[0]), nn.Linear)]
    sizes = {state[key].shape[0] for key in of_linears if state[key].dim() == own[key].dim()}
    tails_equal = all(own[key].shape[1:] == state[key].shape[1:] for key in of_linears)
    return sizes.pop() if len(sizes) == 1 and tails_equal else None


def describe_misfit(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> str:
    """Say how the file differs from the model, with the first few keys, and what to try."""
    misfit = compare(module, state)
    own: Mapping[str, Tensor] = module.state_dict()
    shapes = [f"{key} {list(state[key].shape)}, the model's is {list(own[key].shape)}" for key in misfit.reshaped]
    faults = [
        f"{len(keys)} {what} ({_first(keys)})"
        for what, keys in (("missing", misfit.missing), ("unexpected", misfit.unexpected), ("of another shape", shapes))
        if keys
    ]
    if (misfit.common - len(misfit.reshaped)) * 2 < len(own):
        advice = "These are the weights of another architecture: check the model's name"
    elif misfit.missing or misfit.unexpected:
        advice = "A variant of this model? Check its name and --model-args"
    else:
        advice = "Same architecture, other sizes: check the model's name, --image-size and --model-args (num_classes=N)"
    return f"weights {path} do not fit {type(module).__name__} and its {len(own)} keys: {'; '.join(faults)}. {advice}"


def hash_state(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the sorted names, types, shapes and bytes of a module's `state_dict()`, or of a program's tensors."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        content: Any = tensor.reshape(-1).view(torch.uint8).numpy()
        digest.update(content)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError

    load_file: Callable[[Path], StateDict] = import_module("safetensors.torch").load_file
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"weights {path}: not a whole safetensors file ({error}); fetch or write it again") from error


def _read_pickled(path: Path) -> object:
    try:
        return cast(object, torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        if _is_torch_file(path):
            raise InputError(
                f"weights {path}: holds Python objects besides tensors, which only running its code could read, and "
                "vitgraph runs none; save the model's state_dict() instead, best as .safetensors"
            ) from error
        raise InputError(f"weights {path}: not a file torch.save wrote; fetch or write it again") from error
    except Exception as error:
        raise InputError(
            f"weights {path}: not a file torch.save wrote, or one cut short; fetch or write it again"
        ) from error


def _is_torch_file(path: Path) -> bool:
    """Whether the file is what torch.save writes: a zip archive today, a protocol-2 pickle before 1.6."""
    return zipfile.is_zipfile(path) or path.open("rb").read(2) == b"\x80\x02"


def _unwrap(content: object, path: Path) -> StateDict:
    """Find the state dict in what a training script saved: itself, or under one of the usual names."""
    kind = type(content).__name__
    while isinstance(content, Mapping):
        if state := _as_state_dict(cast(object, content)):
            return state
        box = cast(Mapping[object, object], content)
        kind = f"{type(box).__name__} of {_first([str(key) for key in box])}" if box else "empty dict"
        content = next((box[name] for name in _CONTAINERS if isinstance(box.get(name), Mapping)), None)
    raise InputError(f"weights {path}: no state dict in it, but a {kind}; save the model's state_dict()")


def _as_state_dict(content: object) -> StateDict | None:
    """Give `content` back if it maps names to tensors, nothing else and at least one."""
    if not isinstance(content, Mapping) or not content:
        return None
    items = cast(Mapping[object, object], content).items()
    state = {key: value for key, value in items if isinstance(key, str) and isinstance(value, Tensor)}
    return state if len(state) == len(items) else None


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
