"""The backend `torch-compile`: a program's layers in FP16 by torch's own compiler, for other backends to be timed beside."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from vitgraph.errors import InputError
from vitgraph.runtime.backend import Source
from vitgraph.targets.target import Target

if TYPE_CHECKING:
    from vitgraph.backends.torch_compile.runner import CompiledRunner
    from vitgraph.ir.program import Program


class TorchCompile:
    """Runs programs in FP16 on an NVIDIA GPU, quantized or not."""

    name: ClassVar[str] = "torch-compile"
    source: ClassVar[Source] = "program"

    def refusal(self, target: Target | None) -> str | None:
        """Why it can't run here: no GPU, or no Triton for Inductor to compile with."""
        from vitgraph.runtime.cuda_card import missing_card

        if why := missing_card():
            return f"{why}; FP16 by torch.compile is timed on a GPU alone"
        return None if find_spec("triton") else "Triton is not installed; it comes with torch for CUDA on Linux"

    def load(self, model: Program | Path, target: Target | None = None, *, threads: int = 0) -> CompiledRunner:
        """A program on the GPU; `InputError` where there is none, or for an ONNX file."""
        from vitgraph.backends.torch_compile.runner import CompiledRunner
        from vitgraph.runtime.cuda_card import CudaCard

        if isinstance(model, Path):
            raise InputError(f"{model}: the torch-compile backend runs programs; name a saved one, or a folder")
        return CompiledRunner(model, CudaCard())
