"""Build a TensorRT engine from an ONNX file: with `tensorrt_rtx` on any machine, with full `tensorrt` on the GPU itself.

Both flavours share one code path; what a version lacks is found by asking for it (`getattr`), since the enum values and
names that overlap agree from 10.3 to 11.x and RTX. Networks are always strongly typed: the graph says the types.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vitgraph.backends._engine import Engine, read_sparse_tactics
from vitgraph.backends._layers import EngineLayer, parse_inspector_json, parse_layers_message
from vitgraph.errors import InputError, VitgraphError
from vitgraph.target import Flavour, Target

Progress = Callable[[str, float], None]
Batch = tuple[int, int, int]

_INFO = 3  # ILogger.Severity; more verbose messages are read for layers and sparsity, not kept
_ERROR = 1
_NOISE = ("cudaError 35", "CUDA lazy loading is not enabled")
_PREFIX = re.compile(r"^(?:I?\w+::\w+: )?(?:Error Code \d+: )?(?:Myelin )?(?:\(?\[\S+\.\w+:\d*:? ?\w*\] ?)?")
_PLACE = re.compile(r"\s*(?:In \w+ at /\S+|\(\S+\.(?:cpp|h):\d+\)|In \S+ at \S+\.cpp:\d+)\)?")
_INSTALL = "pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings (Linux, x86-64)"


class EngineBuildError(VitgraphError):
    """The parser or the builder refused the graph; the message carries its own words and the ONNX node."""


@dataclass
class _Record:
    """What the builder said, sorted while it speaks."""

    log: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])
    layers: list[str] = field(default_factory=list[str])

    def take(self, severity: int, message: str) -> None:
        if any(noise in message for noise in _NOISE):
            return
        if message.startswith("Layers:"):
            self.layers.append(message)
        elif severity <= _INFO or "(Sparsity)" in message:
            self.log.append(message)
        if severity <= _ERROR:
            self.errors.append(message)


@dataclass
class _Watch:
    """Progress of a running build, and the wish to end it; written by one thread and read by the other."""

    phase: str = "parse"
    fraction: float = 0.0
    cancelled: bool = False


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
    record, watch = _Record(), _Watch()
    start = time.perf_counter()
    plan = _run_cancellable(lambda: _build(trt, onnx_path, target, batch, record, watch), watch, progress)
    if plan is None:
        raise EngineBuildError(f"TensorRT cannot build {onnx_path.name} for {target.name}: {_reasons(record.errors)}")
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


def _run_cancellable(work: Callable[[], bytes | None], watch: _Watch, progress: Progress | None) -> bytes | None:
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


def _build(trt: Any, path: Path, target: Target, batch: Batch | None, record: _Record, watch: _Watch) -> bytes | None:
    logger = _make_logger(trt, record)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, path, network, logger, record)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.progress_monitor = _make_monitor(trt, watch)
    if target.sparse is not None:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if hasattr(config, "set_compute_capability"):
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, str(target.sm)), 0)
    _set_profile(builder, network, config, batch)
    if watch.cancelled:
        return None
    plan = builder.build_serialized_network(network, config)
    return None if plan is None else bytes(plan)


def _parse(trt: Any, path: Path, network: Any, logger: Any, record: _Record) -> None:
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise _parse_failure(path, [parser.get_error(i) for i in range(parser.num_errors)], record)
    if network.num_outputs == 0:
        raise InputError(f"{path} holds no graph output; it is not a whole ONNX model")


def _parse_failure(path: Path, errors: list[Any], record: _Record) -> VitgraphError:
    codes = {error.code().name for error in errors}
    said = "; ".join(_parser_words(error) for error in errors) or "it gave no reason"
    if "MODEL_DESERIALIZE_FAILED" in codes:
        return InputError(f"{path} is not an ONNX model, or is cut short; write it again")
    data = [message for message in record.errors if "Failed to open file" in message or "file size=" in message]
    if data:
        return InputError(f"{path}: its external data is missing or cut short: {_reasons(data)}")
    return EngineBuildError(f"TensorRT cannot read {path.name}: {said}")


def _parser_words(error: Any) -> str:
    node = f"node {error.node_name()} ({error.node_operator()}): " if error.node_name() else ""
    kind = error.code().name.lower().replace("_", " ")
    return f"{node}{kind}: {_tidy(error.desc())}".removesuffix(": false")


def _set_profile(builder: Any, network: Any, config: Any, batch: Batch | None) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    dynamic = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    if batch is not None and not 0 < batch[0] <= batch[1] <= batch[2]:
        raise InputError(f"batch {batch[0]}:{batch[1]}:{batch[2]} is not MIN:OPT:MAX with 0 < MIN <= OPT <= MAX")
    if not dynamic:
        fixed = {size for tensor in inputs for size in tuple(tensor.shape)[:1]}
        if batch is not None and fixed != set(batch):
            raise InputError(f"batch {batch[0]}:{batch[1]}:{batch[2]} asked for, but the model's is fixed at {fixed}")
        return
    if batch is None:
        names = ", ".join(tensor.name for tensor in dynamic)
        raise InputError(f"input {names} has a dynamic batch; give --batch MIN:OPT:MAX")
    profile = builder.create_optimization_profile()
    for tensor in dynamic:
        shape = tuple(tensor.shape)
        if shape[0] != -1 or -1 in shape[1:]:
            raise InputError(f"input {tensor.name} of shape {shape} is dynamic beyond its batch; fix the other sizes")
        profile.set_shape(tensor.name, *((size, *shape[1:]) for size in batch))
    config.add_optimization_profile(profile)


def _make_logger(trt: Any, record: _Record) -> Any:
    def start(self: Any) -> None:
        trt.ILogger.__init__(self)

    def log(self: Any, severity: Any, message: str) -> None:
        record.take(int(severity), message)

    return type("RecordingLogger", (trt.ILogger,), {"__init__": start, "log": log})()


def _make_monitor(trt: Any, watch: _Watch) -> Any:
    totals: dict[str, int] = {}

    def start(self: Any) -> None:
        trt.IProgressMonitor.__init__(self)

    def phase_start(self: Any, phase: str, parent: str | None, steps: int) -> None:
        totals[phase] = steps
        watch.phase, watch.fraction = phase, 0.0

    def step_complete(self: Any, phase: str, step: int) -> bool:
        watch.phase, watch.fraction = phase, min(1.0, (step + 1) / max(1, totals.get(phase, 1)))
        return not watch.cancelled

    def phase_finish(self: Any, phase: str) -> None:
        watch.phase, watch.fraction = phase, 1.0

    methods = {
        "__init__": start,
        "phase_start": phase_start,
        "step_complete": step_complete,
        "phase_finish": phase_finish,
    }
    return type("CancellingMonitor", (trt.IProgressMonitor,), methods)()


def _read_layers(trt: Any, flavour: Flavour, record: _Record, plan: bytes) -> tuple[EngineLayer, ...]:
    if flavour == "tensorrt" and (text := _inspect(trt, plan)) is not None:
        return parse_inspector_json(text)
    if not record.layers:
        raise VitgraphError(
            f"{flavour} {trt.__version__} gave no layer report; vitgraph reads that of TensorRT-RTX 1.7"
        )
    return tuple(layer for message in record.layers for layer in parse_layers_message(message))


def _inspect(trt: Any, plan: bytes) -> str | None:
    """The inspector's JSON, or None where the engine does not load (no GPU)."""
    engine = trt.Runtime(_make_logger(trt, _Record())).deserialize_cuda_engine(plan)
    if engine is None:
        return None
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def _reasons(errors: list[str]) -> str:
    return "; ".join(dict.fromkeys(_tidy(error) for error in errors)) or "it gave no reason"


def _tidy(message: str) -> str:
    """A builder's message without its own function names, error numbers and source places.

    >>> _tidy("IBuilder::build: Error Code 1: Myelin ([pass.cpp:3: f] Cannot compile 'a/MatMul'. In run at /_src/x.cpp:20)")
    "Cannot compile 'a/MatMul'."
    """
    return _PLACE.sub("", _PREFIX.sub("", message)).strip()
