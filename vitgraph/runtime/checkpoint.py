"""Finished parts of long work, kept in a folder: one file a part, each there whole or not at all, and used as it was written or not at all."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from vitgraph.images.calibration_data import Images
from vitgraph.ir.program import Program
from vitgraph.outputs.whole_file import write_whole

_log = logging.getLogger("vitgraph")


@dataclass(frozen=True)
class Checkpoint:
    """Parts of one piece of work, which `key` names: other inputs or options have another key.

    A file begins with the digest of everything after it, of its key and number, and of the version that wrote it. One that is
    not as it was written is told, removed, and its part done anew.
    """

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
        """The tensors that were written of a part, or None where there are none, or none that can be trusted."""
        from safetensors.torch import load

        file = self._file(part)
        if file is None or not file.is_file():
            return None
        try:
            return load(self._unsealed(part, file.read_bytes()))
        except (OSError, ValueError) as error:
            _log.warning("%s: a finished part is not used, and done anew: %s", file, error)
            file.unlink(missing_ok=True)
            return None

    def write(self, part: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep a part, unless it is there. Raises `InputError` where the disk refuses."""
        from safetensors.torch import save

        file = self._file(part)
        if file is not None and not file.exists():
            content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
            write_whole(file, self._seal(part, content) + content)

    def last(self) -> int | None:
        """The largest number of a part that is there; None where none is."""
        if self.folder is None or not self.folder.is_dir():
            return None
        names = (
            each.name.removeprefix(f"{self.key}-").removesuffix(".part")
            for each in self.folder.glob(f"{self.key}-*.part")
        )
        return max((int(name) for name in names if name.isdecimal()), default=None)

    def drop(self, part: int) -> None:
        """Forget a part that a later one makes superfluous."""
        file = self._file(part)
        if file is not None:
            file.unlink(missing_ok=True)

    def _seal(self, part: int, content: bytes) -> bytes:
        label = f"vitgraph {version('vitgraph')} {self.key} {part}\n"
        return hashlib.sha256(label.encode() + content).digest()

    def _unsealed(self, part: int, data: bytes) -> bytes:
        """The content; `ValueError` where it is not what was written of this part."""
        size = hashlib.sha256().digest_size
        seal, content = data[:size], data[size:]
        if seal != self._seal(part, content):
            raise ValueError("it is damaged, or of other work")
        return content

    def _file(self, part: int) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.key}-{part}.part"
