"""Kernels that TensorRT-RTX compiled, kept from run to run: one file for an engine on a GPU with a driver and a version.

A file is a line of JSON (the key, and the digest of what follows) and the runtime's own bytes. What is not of its key, damaged or cut
short is left alone and written anew; a cache that can't be written is told and no more. They lie in `~/.cache/vitgraph/tensorrt`
(`$XDG_CACHE_HOME/vitgraph/tensorrt`), or where `VITGRAPH_CACHE` says; where that is empty nothing is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from vitgraph.errors import VitgraphError
from vitgraph.outputs.whole_file import write_whole
from vitgraph.reading import KERNEL_CACHE, decode, parse_json, read_bytes
from vitgraph.runtime.accelerator import CardFacts

VARIABLE = "VITGRAPH_CACHE"
FORMAT = "vitgraph kernel cache 1"
_log = logging.getLogger("vitgraph")


@dataclass(frozen=True)
class CacheKey:
    """What kernels are bound to."""

    runtime: str
    gpu: str
    compute_capability: str
    driver: str
    engine: str
    """SHA-256 of the plan."""

    @classmethod
    def of(cls, runtime: str, card: CardFacts, plan: bytes) -> CacheKey:
        """The key of a plan on a card."""
        return cls(runtime, card.name, card.compute_capability, card.driver, hashlib.sha256(plan).hexdigest())

    @property
    def digest(self) -> str:
        """The file's name: short, and of all parts."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]


def cache_folder() -> Path | None:
    """Where kernels are kept; None where nothing is to be."""
    asked = os.environ.get(VARIABLE)
    if asked is not None:
        return Path(asked) / "tensorrt" if asked else None
    base = os.environ.get("XDG_CACHE_HOME")
    home = Path(base) if base else Path("~/.cache").expanduser()
    return home / "vitgraph" / "tensorrt"


def read_kernels(key: CacheKey) -> bytes | None:
    """What was kept under this key; None where there is nothing, or nothing that is whole and of this key."""
    folder = cache_folder()
    file = None if folder is None else folder / f"{key.digest}.kernels"
    if file is None or not file.is_file():
        return None
    try:
        head, _, content = read_bytes(file, KERNEL_CACHE).partition(b"\n")
        good = parse_json(decode(head, KERNEL_CACHE, str(file)), str(file)) == _head(key, content)
    except VitgraphError:
        good, content = False, b""
    if not good:
        _log.warning("%s: is damaged or of another engine, GPU, driver or version; kernels are compiled again", file)
    return content if good else None


def keep_kernels(key: CacheKey, content: bytes) -> None:
    """Write them whole or not at all."""
    folder = cache_folder()
    if folder is None:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        head = json.dumps(_head(key, content)).encode()
        write_whole(folder / f"{key.digest}.kernels", head + b"\n" + content)
    except (OSError, VitgraphError) as error:
        _log.warning("kernels that TensorRT-RTX compiled are not kept: %s", error)


def _head(key: CacheKey, content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    return {"format": FORMAT, "key": asdict(key), "bytes": len(content), "sha256": digest}
