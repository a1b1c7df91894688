"""ONNX Runtime on the CPU: runs a program, or an ONNX file as it was written, and so measures what is shipped.

Q/DQ pairs are computed as written, in floating point on the INT8 grid; a latency taken here is not that of INT8 kernels.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitgraph.backends.ort.session import open_session, refused
from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.outputs.scratch import ScratchFolder
from vitgraph.reading import ONNX, check_file
from vitgraph.runtime.backend import Runner, Source
from vitgraph.targets.target import Target

_TORCH_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}


class OrtRunner(Runner):
    """A session. `folder`, if any, holds the file it was made from and goes when the runner is closed."""

    def __init__(self, session: Any, name: str, folder: ScratchFolder | None = None) -> None:
        self.session: Any = session
        self._folder = folder
        taken = session.get_inputs()[0]
        self._input, self._output = str(taken.name), str(session.get_outputs()[0].name)
        sizes = tuple(size if isinstance(size, int) else None for size in taken.shape)
        super().__init__(name, sizes, _TORCH_TYPES[str(taken.type)])

    def compute(self, batch: Tensor) -> Tensor:
        """The first output."""
        try:
            (found,) = self.session.run([self._output], {self._input: batch.detach().cpu().contiguous().numpy()})
        except Exception as error:  # as in `open_session`
            raise refused(self.name, "can't run it", error) from error
        return torch.from_numpy(found)  # pyright: ignore[reportUnknownMemberType]

    def close(self) -> None:
        """Let the session and its file go."""
        self.session = None
        if self._folder is not None:
            self._folder.close()


class Ort:
    """Runs programs and ONNX files."""

    name: ClassVar[str] = "ort"
    source: ClassVar[Source] = "model.onnx"

    def refusal(self, target: Target | None) -> str | None:
        """Why it can't work here, or None where it can."""
        return None if find_spec("onnxruntime") else "ONNX Runtime is not installed; pip install onnxruntime"

    def load(self, model: Program | Path, target: Target | None = None, *, threads: int = 0) -> OrtRunner:
        """A session with full optimization on the CPU; `InputError` where ONNX Runtime does not take the model."""
        if isinstance(model, Path):
            return OrtRunner(_session(model, str(model), threads), str(model))
        from vitgraph.backends.onnx.lowering import lower  # brings onnx and onnx_ir, which running a file does not need

        folder = ScratchFolder()
        try:
            lower(model, folder.path / "model.onnx")
            return OrtRunner(_session(folder.path / "model.onnx", model.name, threads), model.name, folder)
        except BaseException:
            folder.close()
            raise


def _session(path: Path, name: str, threads: int) -> Any:
    """One whose model takes one tensor."""
    check_file(path, ONNX)
    session = open_session(str(path), name, threads)
    if len(session.get_inputs()) != 1:
        raise InputError(f"{name}: has {len(session.get_inputs())} inputs; a runner takes models of one")
    for verb, found in (("takes", session.get_inputs()[0]), ("gives", next(iter(session.get_outputs()), None))):
        if found is None or str(found.type) not in _TORCH_TYPES:
            raise InputError(f"{name}: {verb} {found.type if found else 'nothing'}, which torch has no tensors of")
    return session
