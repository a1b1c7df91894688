"""Finished parts of long work, kept in a folder: one file a part, each there whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vitgraph.images.calibration_data import Images
from vitgraph.ir.program import Program
from vitgraph.outputs import write_whole


@dataclass(frozen=True)
class Checkpoint:
    """Parts of one piece of work, which `key` names: other inputs or options have another key."""

    folder: Path | None
    key: str

    @classmethod
    def of(cls, folder: Path | None, program: Program, options: str, images: Images | None) -> Checkpoint:
        """The place for work on this program, with these options and images; without a folder nothing is kept."""
        if folder is None:
            return cls(None, "")
        seen = "" if images is None else f"{len(images)} {getattr(images, 'sha256', '')}"
        digest = hashlib.sha256(f"{program}\n{options}\n{seen}".encode())
        for name, tensor in program.tensors().items():
            digest.update(name.encode())
            digest.update(tensor.detach().contiguous().numpy().tobytes())
        return cls(folder, digest.hexdigest()[:16])

    def read(self, part: int) -> dict[str, Tensor] | None:
        """The tensors that were written of a part, or None."""
        from safetensors.torch import load

        file = self._file(part)
        return None if file is None or not file.exists() else load(file.read_bytes())

    def write(self, part: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep a part, unless it is there."""
        from safetensors.torch import save

        file = self._file(part)
        if file is not None and not file.exists():
            write_whole(file, save({name: tensor.contiguous() for name, tensor in tensors.items()}))

    def drop(self, part: int) -> None:
        """Forget a part that a later one makes superfluous."""
        file = self._file(part)
        if file is not None:
            file.unlink(missing_ok=True)

    def _file(self, part: int) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.key}-{part}.safetensors"
