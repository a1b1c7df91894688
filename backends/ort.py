"""ONNX Runtime on the CPU: runs a program, or an ONNX file as it was written, and so measures what is shipped.

Q/DQ pairs are computed as written, in floating point on the INT8 grid; a latency taken here is not that of INT8 kernels.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.targets.target import Target

PROVIDER = "CPUExecutionProvider"

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


class OrtRunner:
    """A session. `folder`, if any, holds the file it was made from and goes when the runner is closed."""

    def __init__(self, session: Any, name: str, folder: Path | None = None) -> None:
        self.session: Any = session
        self.name = name
        self._folder = folder
        self._input = session.get_inputs()[0]
        self._output = str(session.get_outputs()[0].name)

    @property
    def batch_size(self) -> int | None:
        """The batch size the model was made for; None where it takes any."""
        size: Any = self._input.shape[0] if self._input.shape else None
        return size if isinstance(size, int) else None

    def run(self, batch: Tensor) -> Tensor:
        """The first output for a batch; `InputError` where shape or type is not the model's."""
        wanted, dtype = list(self._input.shape), _TORCH_TYPES.get(str(self._input.type))
        sizes = zip(batch.shape, wanted, strict=False)
        fits = batch.dim() == len(wanted) and all(not isinstance(w, int) or h == w for h, w in sizes)
        if not fits or batch.dtype != dtype:
            raise InputError(
                f"{self.name}: takes {self._input.type} {wanted}, but the batch is {batch.dtype} {list(batch.shape)}; "
                "preprocess it so, or compile with another --batch"
            )
        feed = {str(self._input.name): batch.detach().cpu().contiguous().numpy()}
        (found,) = self.session.run([self._output], feed)
        return torch.from_numpy(found)  # pyright: ignore[reportUnknownMemberType]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.session = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True)
class Ort:
    """Runs programs and ONNX files. `threads` of 0 leaves the number to ONNX Runtime."""

    name: ClassVar[str] = "ort"
    threads: int = 0

    def load(self, model: Program | Path, target: Target | None = None) -> OrtRunner:
        """A session with full optimization on the CPU; `InputError` where ONNX Runtime does not take the model."""
        if isinstance(model, Path):
            return OrtRunner(self._session(model, str(model)), str(model))
        from vitgraph.backends.onnx.lowering import lower  # brings onnx and onnx_ir, which running a file does not need

        folder = Path(tempfile.mkdtemp(prefix="vitgraph-"))
        try:
            lower(model, folder / "model.onnx")
            return OrtRunner(self._session(folder / "model.onnx", model.name), model.name, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _session(self, path: Path, name: str) -> Any:
        """Make the session, and make sure that it runs where it was told to."""
        runtime = cast(Any, import_module("onnxruntime"))  # it has no type stubs
        if not path.is_file():
            raise InputError(f"{path}: there is no such ONNX file; `vitgraph compile` writes model.onnx")
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        # ONNX Runtime's own INT8 kernels add pairs of products in 16 bits on processors without VNNI: attention computed
        # with them was off by 2 to 60 %. Without them Q/DQ runs as the model says, as exact as eager, and was faster too.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            session = runtime.InferenceSession(str(path), options, providers=[PROVIDER])
        except Exception as error:  # ONNX Runtime has an exception for each of its status codes, with no common base
            raise InputError(f"{name}: ONNX Runtime {runtime.__version__} refuses it: {_reason(error)}") from error
        if session.get_providers() != [PROVIDER]:
            raise InputError(f"{name}: ONNX Runtime runs it on {session.get_providers()}, not on {PROVIDER}")
        if len(session.get_inputs()) != 1:
            raise InputError(f"{name}: has {len(session.get_inputs())} inputs; a runner takes models of one")
        return session


def _reason(error: Exception) -> str:
    """Its first line, and what to do where that is known."""
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:400]
    lowered = text.lower()
    if "bfloat16" in lowered or "not_implemented" in lowered.replace(" ", "_"):
        return f"{text}; its CPU kernels lack this (bfloat16 among them): measure the FP16 or FP32 form instead"
    if "protobuf" in lowered or "unsupported model ir" in lowered:
        return f"{text}; is it a whole ONNX file?"
    return text
