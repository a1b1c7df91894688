"""Build a TensorRT engine from an ONNX file: with `tensorrt_rtx` on any machine, with full `tensorrt` on the GPU itself.

Both flavours share one code path; what a version lacks is found by asking for it (`getattr`), since the enum values and
names that overlap agree from 10.3 to 11.x and RTX. Networks are always strongly typed: the graph says the types.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vitgraph.backends.tensorrt.builder import Batch, EngineBuildError, Record, Watch, build_plan, make_logger, reasons
from vitgraph.backends.tensorrt.engine import Engine, read_sparse_tactics
from vitgraph.backends.tensorrt.engine_layers import EngineLayer, parse_inspector_json, parse_layers_message
from vitgraph.errors import InputError, VitgraphError
from vitgraph.targets.capability import Flavour
from vitgraph.targets.target import Target

Progress = Callable[[str, float], None]

_INSTALL = "pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings (Linux, x86-64)"


def unbuildable_why(target: Target) -> str | None:
    """Why no engine for `target` can be built on this machine, or None where one can."""
    if _full_tensorrt_serves(target):
        return None
    if "tensorrt_rtx" not in target.builders:
        return target.no_builder_here or f"no TensorRT flavour here builds for {target.name}"
    if find_spec("tensorrt_rtx_libs") is None or find_spec("tensorrt_rtx_bindings") is None:
        return f"no TensorRT builder is installed; {_INSTALL}"
    return None


def build_engine(
    onnx_path: Path, target: Target, batch: Batch | None = None, progress: Progress | None = None
) -> Engine:
    """Build the engine of an ONNX file for `target`; the same file gives the same plan bytes.

    `batch` is (min, opt, max) for inputs whose first dimension is dynamic. `progress` is called with a phase and the
    fraction of it that is done (0 to 1). KeyboardInterrupt cancels the build and is raised again.

    Raises InputError for a file that is not a whole ONNX model or a batch that does not fit it, EngineBuildError where
    the parser or builder refuses the graph, VitgraphError where no builder is at hand.
    """
    _require_model_file(onnx_path)
    why = unbuildable_why(target)
    if why is not None:
        raise VitgraphError(f"cannot build an engine for {target.name} here: {why}")
    flavour: Flavour = "tensorrt" if _full_tensorrt_serves(target) else "tensorrt_rtx"
    trt = _import(flavour)
    record, watch = Record(), Watch()
    start = time.perf_counter()
    plan = _run_cancellable(lambda: build_plan(trt, onnx_path, target, batch, record, watch), watch, progress)
    if plan is None:
        raise EngineBuildError(f"TensorRT cannot build {onnx_path.name} for {target.name}: {reasons(record.errors)}")
    seconds = time.perf_counter() - start
    builder = target.builders[flavour]
    return Engine(
        plan=plan,
        layers=_read_layers(trt, flavour, record, plan),
        flavour=flavour,
        version=str(trt.__version__),
        compute_capabilities=(target.compute_capability or "",),
        role=builder.role,
        role_why=builder.why,
        build_seconds=seconds,
        log="\n".join(record.log) + "\n",
        sparse=read_sparse_tactics(record.log, flavour),
    )


def _require_model_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} is not a file; give the ONNX model to build")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; write the ONNX model again")


def _full_tensorrt_serves(target: Target) -> bool:
    """Whether full TensorRT is installed and the GPU in this machine is the target's kind."""
    if "tensorrt" not in target.builders or find_spec("tensorrt") is None:
        return False
    import torch

    if not torch.cuda.is_available():
        return False
    major, minor = torch.cuda.get_device_capability()
    return f"{major}.{minor}" == target.compute_capability


def _import(flavour: Flavour) -> Any:
    if flavour == "tensorrt":
        return import_module("tensorrt")
    import_module("tensorrt_rtx_libs")  # loads the shared objects that the bindings need
    return import_module("tensorrt_rtx_bindings")


def _run_cancellable(work: Callable[[], bytes | None], watch: Watch, progress: Progress | None) -> bytes | None:
    """Run `work` in a thread; the caller's thread stays free for Ctrl-C and for the progress callback."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tensorrt-build") as pool:
        future = pool.submit(work)
        try:
            while not future.done():
                wait([future], timeout=0.05)
                if progress is not None:
                    progress(watch.phase, watch.fraction)
        except BaseException:
            watch.cancelled = True
            raise
        return future.result()


def _read_layers(trt: Any, flavour: Flavour, record: Record, plan: bytes) -> tuple[EngineLayer, ...]:
    if flavour == "tensorrt" and (text := _inspect(trt, plan)) is not None:
        return parse_inspector_json(text)
    if not record.layers:
        raise VitgraphError(
            f"{flavour} {trt.__version__} gave no layer report; vitgraph reads that of TensorRT-RTX 1.7"
        )
    return tuple(layer for message in record.layers for layer in parse_layers_message(message))


def _inspect(trt: Any, plan: bytes) -> str | None:
    """The inspector's JSON, or None where the engine does not load (no GPU)."""
    engine = trt.Runtime(make_logger(trt, Record())).deserialize_cuda_engine(plan)
    if engine is None:
        return None
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
