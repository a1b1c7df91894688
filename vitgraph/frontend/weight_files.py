"""Weights from a file: read without pickle, unwrapped, hashed.

What a file holds decides, not its ending: safetensors is read as it is; what `torch.save` wrote (`.pth`, `.pt`, `.bin`,
`.ckpt`) only through `torch.load(weights_only=True)`, which runs no code from the file.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.reading import WEIGHTS, check_file

StateDict = dict[str, Tensor]
Convert = Callable[[StateDict, nn.Module], object]
"""Brings a file written under other names, or for another image size, to the module's own; may fail on any other."""
# What training scripts wrap a state dict in, outermost first: an averaged copy is preferred to the raw one.
_CONTAINERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "teacher", "state_dict", "model_state_dict", "model", "module",
    "params", "student",
)  # fmt: skip
_DEEPEST = 8  # a container in itself would have no end
_INERT = (
    Namespace,
    PurePosixPath,
    PureWindowsPath,
    (PurePosixPath, "pathlib.PosixPath"),
    (PureWindowsPath, "pathlib.WindowsPath"),
    (PurePosixPath, "pathlib._local.PosixPath"),  # of Python 3.13
    (PureWindowsPath, "pathlib._local.WindowsPath"),
)
"""What training scripts save beside tensors and can be made without running anything: their options, and paths in them."""
_NAMED = 4
_LONGEST = 1_024
"""Characters of a tensor's name; the longest of timm's models have some 70."""


def read_weights(path: Path) -> StateDict:
    """Read a weights file into a flat state dict on the CPU; raise InputError where it is absent, corrupt or no weights."""
    check_file(path, WEIGHTS)
    if path.stat().st_size == 0:
        raise InputError(f"weights {path}: the file is empty; fetch it again")
    if _is_torch_file(path):
        return _named_shortly(_unwrap(_read_pickled(path), path), path)
    if path.suffix == ".safetensors" or _is_safetensors(path):
        return _named_shortly(_read_safetensors(path), path)
    raise InputError(
        f"weights {path}: not a file torch.save wrote, and no safetensors, or one cut short; fetch or write it again"
    )


def _named_shortly(state: StateDict, path: Path) -> StateDict:
    """The same, where no name is so long that to look for its prefixes would take minutes."""
    longest = max(map(len, state), default=0)
    if longest > _LONGEST:
        raise InputError(
            f"weights {path}: a tensor's name has {longest:,} characters, over the {_LONGEST:,} that are read; save the "
            "model's state_dict() instead"
        )
    return state


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
    # KeyError, AttributeError, TypeError: of elements that this torch has no type for
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"weights {path}: not a whole safetensors file ({error}); fetch or write it again") from error


def _read_pickled(path: Path) -> object:
    _check_unpacked_size(path)
    serialization: Any = torch.serialization
    try:
        with serialization.safe_globals(list(_INERT)):
            return cast(object, torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise InputError(f"weights {path}: {_why_unread(error)}") from error


def _why_unread(error: Exception) -> str:
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and "Unsupported" in text:
        named = re.search(r"GLOBAL ([\w.]+)", text)
        return (
            f"holds Python objects besides tensors{f' ({named[1]})' if named else ''}, which only running its code could "
            "read, and vitgraph runs none; save the model's state_dict() instead, best as .safetensors"
        )
    if "TorchScript" in text:
        return "a TorchScript program, which brings its own code; save the model's state_dict() instead"
    return "not a file torch.save wrote, or one cut short; fetch or write it again"


def _check_unpacked_size(path: Path) -> None:
    """torch.save compresses nothing; an archive that unpacks to more than there is of it was made to fill the memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # no archive: torch says what is wrong with it
    if unpacked > path.stat().st_size:
        raise InputError(
            f"weights {path}: unpacks to {unpacked:,} bytes, more than the file has; write it again with torch.save"
        )


def _is_torch_file(path: Path) -> bool:
    """Whether the file is what torch.save writes: a zip archive today, a protocol-2 pickle before 1.6."""
    return zipfile.is_zipfile(path) or path.open("rb").read(2) == b"\x80\x02"


def _is_safetensors(path: Path) -> bool:
    """Whether it begins with the length of a header, and the header."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _unwrap(content: object, path: Path) -> StateDict:
    """Find the state dict in what a training script saved: itself, or under one of the usual names."""
    kind = type(content).__name__
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            break
        if state := as_state_dict(cast(object, content)):
            return state
        box = cast(Mapping[object, object], content)
        kind = f"{type(box).__name__} of {first_names([_key(key) for key in box])}" if box else "empty dict"
        inner = next((box[name] for name in _CONTAINERS if isinstance(box.get(name), Mapping)), None)
        content = inner or _tensors_of(box) or None
    raise InputError(f"weights {path}: no state dict in it, but a {kind}; save the model's state_dict()")


def _key(name: object) -> str:
    """A key as a message names it; what is no name may be nested without end."""
    return str(name)[:80] if isinstance(name, str | int) else f"a {type(name).__name__}"


def as_state_dict(content: object) -> StateDict | None:
    """`content` itself if it maps names to tensors, nothing else and at least one."""
    if not isinstance(content, Mapping) or not content:
        return None
    state = _tensors_of(cast(Mapping[object, object], content))
    return state if len(state) == len(cast(Mapping[object, object], content)) else None


def _tensors_of(box: Mapping[object, object]) -> StateDict:
    """The tensors that stand in it by names, beside counters and settings."""
    return {key: value for key, value in box.items() if isinstance(key, str) and isinstance(value, Tensor)}


def first_names(names: Sequence[str]) -> str:
    """The first few, for a message."""
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
