"""OpenVINO on the CPU: runs a program or an ONNX file with INT8 kernels, and says what each site was computed in.

Q/DQ pairs become INT8 products here, and an attention whose q, k, v and probabilities carry pairs one INT8 kernel, so a
latency taken here is one of INT8 kernels. It runs `model.onnx` as it is shipped: pairs on activations in front of views and
without them, UINT8 values, and pairs left out of the attention were tried, and none was faster.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from vitgraph.backends.openvino.runner import OpenVinoRunner, reason
from vitgraph.backends.openvino.saturation import WARNING, has_int8, saturates
from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.outputs.scratch import ScratchFolder
from vitgraph.runtime.backend import Source
from vitgraph.targets.target import Target

_log = logging.getLogger("vitgraph")
_INSTALL = "OpenVINO is not installed; pip install 'vitgraph[openvino]'"
_HALF = ("f16", "bf16")


@dataclass(frozen=True)
class OpenVino:
    """Runs programs and ONNX files.

    What is not INT8 is computed as the graph is typed: in FP32 where it holds nothing shorter, else in the type that OpenVINO
    chooses for the processor, which is BF16 where that multiplies it. `precision` asks for another; `auto` is OpenVINO's own
    default, its choice for every graph.
    """

    name: ClassVar[str] = "openvino"
    source: ClassVar[Source] = "model.onnx"
    precision: Literal["auto", "f32", "bf16"] | None = None

    def refusal(self, target: Target | None) -> str | None:
        """Why it can't work here, or None where it can."""
        return None if find_spec("openvino") else _INSTALL

    def load(self, model: Program | Path, target: Target | None = None, *, threads: int = 0) -> OpenVinoRunner:
        """A model on the CPU; `InputError` where OpenVINO is not installed or does not take the model."""
        openvino = _import()
        if isinstance(model, Path):
            if not model.is_file():
                raise InputError(f"{model}: there is no such ONNX file; `vitgraph compile` writes model.onnx")
            return self._read(openvino, model, str(model), threads)
        from vitgraph.backends.onnx.lowering import lower  # brings onnx and onnx_ir, which running a file does not need

        with ScratchFolder() as folder:
            lower(model, folder / "model.onnx")
            return self._read(openvino, folder / "model.onnx", model.name, threads)

    def _read(self, openvino: Any, path: Path, name: str, threads: int) -> OpenVinoRunner:
        core = openvino.Core()
        try:
            model = core.read_model(str(path), config={"ENABLE_MMAP": False})  # the file may go before the model does
        except RuntimeError as error:
            raise InputError(f"{name}: OpenVINO {openvino.__version__} can't read it: {reason(error)}") from error
        if len(model.inputs) != 1:
            raise InputError(f"{name}: has {len(model.inputs)} inputs; a runner takes models of one")
        if saturates() and has_int8(model):
            _log.warning(WARNING, name)
        runner = OpenVinoRunner(core, model, name, self._config(model, threads))
        runner.prepare(runner.batch_size or 1)  # a refusal is told here, not at the first batch
        return runner

    def _config(self, model: Any, threads: int) -> dict[str, Any]:
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "CACHE_DIR": ""}
        precision = self.precision or ("auto" if _has_half(model) else "f32")
        if precision != "auto":
            config["INFERENCE_PRECISION_HINT"] = precision
        return config | ({"INFERENCE_NUM_THREADS": threads} if threads else {})


def _has_half(model: Any) -> bool:
    """Whether a value of the graph is FP16 or BF16."""
    return any(out.get_element_type().get_type_name() in _HALF for op in model.get_ops() for out in op.outputs())


def _import() -> Any:
    """OpenVINO without its telemetry: importing it reports to a server, unless the package that does so can't be imported."""
    quiet = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if quiet:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # openvino then takes its stub
    try:
        return cast(Any, import_module("openvino"))
    except ImportError as error:
        raise InputError(f"--backend openvino: {_INSTALL}") from error
    finally:
        if quiet:
            del sys.modules["openvino_telemetry"]
