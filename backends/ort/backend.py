"""ONNX Runtime on the CPU: runs a program, or an ONNX file as it was written, and so measures what is shipped.

Q/DQ pairs are computed as written, in floating point on the INT8 grid; a latency taken here is not that of INT8 kernels.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.reading import ONNX, check_file
from vitgraph.runtime.backend import Runner, Source
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


class OrtRunner(Runner):
    """A session. `folder`, if any, holds the file it was made from and goes when the runner is closed."""

    def __init__(self, session: Any, name: str, folder: Path | None = None) -> None:
        self.session: Any = session
        self._folder = folder
        taken = session.get_inputs()[0]
        self._input, self._output = str(taken.name), str(session.get_outputs()[0].name)
        sizes = tuple(size if isinstance(size, int) else None for size in taken.shape)
        super().__init__(name, sizes, _TORCH_TYPES[str(taken.type)])

    def compute(self, batch: Tensor) -> Tensor:
        """The first output."""
        (found,) = self.session.run([self._output], {self._input: batch.detach().cpu().contiguous().numpy()})
        return torch.from_numpy(found)  # pyright: ignore[reportUnknownMemberType]

    def close(self) -> None:
        """Let the session and its file go."""
        self.session = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


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

        folder = Path(tempfile.mkdtemp(prefix="vitgraph-"))
        try:
            lower(model, folder / "model.onnx")
            return OrtRunner(_session(folder / "model.onnx", model.name, threads), model.name, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _session(path: Path, name: str, threads: int) -> Any:
    """Make the session, and make sure that it runs where it was told to."""
    check_file(path, ONNX)
    runtime = cast(Any, import_module("onnxruntime"))  # it has no type stubs
    runtime.disable_telemetry_events()  # what a machine compiles is nobody else's business
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # ONNX Runtime's own INT8 kernels add pairs of products in 16 bits on processors without VNNI: attention computed
    # with them was off by 2 to 60 %. Without them Q/DQ runs as the model says, as exact as eager, and was faster too.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Idle threads would otherwise spin for tens of milliseconds, on the cores of whatever runs next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = runtime.InferenceSession(str(path), options, providers=[PROVIDER])
    except Exception as error:  # ONNX Runtime has an exception for each of its status codes, with no common base
        raise InputError(f"{name}: ONNX Runtime {runtime.__version__} refuses it: {_reason(error)}") from error
    if session.get_providers() != [PROVIDER]:
        raise InputError(f"{name}: ONNX Runtime runs it on {session.get_providers()}, not on {PROVIDER}")
    if len(session.get_inputs()) != 1:
        raise InputError(f"{name}: has {len(session.get_inputs())} inputs; a runner takes models of one")
    if str(session.get_inputs()[0].type) not in _TORCH_TYPES:
        raise InputError(f"{name}: takes {session.get_inputs()[0].type}, which torch has no tensors of")
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
