"""A hostile file and the command lines that are to refuse it."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM: Any = vars(os)["system"]
"""What exploits use, though it is deprecated."""
CANARY = "PWNED"
"""The file that every payload would make, in the folder that the command runs in."""
PAYLOAD = f'getattr(__import__("os"),"system")("touch {CANARY}")'
"""Without a dot, at which a tensor's name would be split."""
Commands = tuple[tuple[str, ...], ...]
Write = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """Files by path within an empty folder, and the command lines; each must exit with 2."""

    name: str
    files: Mapping[str, str | bytes | Write]
    commands: Commands

    def write(self, folder: Path) -> None:
        """Make the files."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(content):
                content(path)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)


class Exploit:
    """Unpickled by pickle itself, it makes the canary."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return SYSTEM, (f"touch {CANARY}",)


def pickled(content: object) -> bytes:
    """As pickle writes it."""
    return pickle.dumps(content, protocol=2)


def program(text: str, names: tuple[str, ...] = (), **header: Any) -> bytes:
    """A saved program with this text, and a tensor [4] of each name."""
    import torch
    from safetensors.torch import save

    own: dict[str, Any] = {"text": text, "provenance": {}, "ledger": []}
    metadata = own | header
    tensors = {name: torch.zeros(4) for name in names} or {"unused": torch.zeros(1)}
    return save(tensors, {"vitgraph": json.dumps(metadata)})
