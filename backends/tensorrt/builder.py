"""The talk with TensorRT's bindings: parse, configure, build, and what they say meanwhile.

The bindings are passed in as `trt`, so that one code serves `tensorrt` 10.3 to 11.x and `tensorrt_rtx`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitgraph.errors import InputError, VitgraphError
from vitgraph.targets.target import Target

BatchSizes = tuple[int, int, int]
"""Smallest, most frequent and largest batch size."""

_INFO = 3  # ILogger.Severity; more verbose messages are read for layers and sparsity, not kept
_ERROR = 1
_TIME = re.compile(r"\b\d+(?:\.\d+)?(?:e[-+]?\d+)?( ?(?:ns|us|ms|s|sec|seconds?|minutes?)\b)")
_NOISE = ("cudaError 35", "CUDA lazy loading is not enabled")
_PREFIX = re.compile(r"^(?:I?\w+::\w+: )?(?:Error Code \d+: )?(?:Myelin )?(?:\(?\[\S+\.\w+:\d*:? ?\w*\] ?)?")
_PLACE = re.compile(r"\s*(?:In \w+ at /\S+|\(\S+\.(?:cpp|h):\d+\)|In \S+ at \S+\.cpp:\d+)\)?")


class EngineBuildError(VitgraphError):
    """The parser or the builder refused the graph; the message carries its own words and the ONNX node."""


@dataclass
class Record:
    """What the builder said, sorted while it speaks."""

    log: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])
    layers: list[str] = field(default_factory=list[str])

    def take(self, severity: int, message: str) -> None:
        """File one message by what it is; noise of a machine without a GPU is dropped."""
        if any(noise in message for noise in _NOISE):
            return
        if message.startswith("Layers:"):
            self.layers.append(message)
        elif severity <= _INFO or "(Sparsity)" in message:
            self.log.append(message)
        if severity <= _ERROR:
            self.errors.append(message)

    def text(self, path: Path) -> str:
        """The log without what differs from run to run, which is where the model lay, what the clock said and how much memory
        was in use: the same build has the same log."""
        lines = "\n".join(line for line in self.log if not line.startswith("[MemUsage"))
        folder = re.compile(rf"(?<![\w./]){re.escape(str(path.parent))}/")
        return _TIME.sub(r"…\1", folder.sub("", lines)) + "\n"


@dataclass
class Watch:
    """Progress of a running build, and the wish to end it; written by one thread and read by the other."""

    phase: str = "parse"
    fraction: float = 0.0
    cancelled: bool = False


def build_plan(
    trt: Any, path: Path, target: Target, batch: BatchSizes | None, record: Record, watch: Watch
) -> bytes | None:
    """The serialized engine, or None where the builder refused (see `record.errors`) or `watch.cancelled` was set.

    Raises InputError for a file that is no whole model or a batch that does not fit, EngineBuildError for a graph that
    the parser refuses.
    """
    logger = make_logger(trt, record)
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
        config.set_compute_capability(_capability(trt, target), 0)
    _set_profile(builder, network, config, batch)
    if watch.cancelled:
        return None
    plan = builder.build_serialized_network(network, config)
    return None if plan is None else bytes(plan)


def _capability(trt: Any, target: Target) -> Any:
    """The builder's own value for the target's capability; InputError where it has none (a target's file may say anything)."""
    found = getattr(trt.ComputeCapability, str(target.sm), None)
    if found is None:
        raise InputError(
            f"target {target.name}: this TensorRT builds for no {target.sm}; take `tensorrt_rtx` out of its builders"
        )
    return found


def _parse(trt: Any, path: Path, network: Any, logger: Any, record: Record) -> None:
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise _parse_failure(path, [parser.get_error(i) for i in range(parser.num_errors)], record)
    if network.num_outputs == 0:
        raise InputError(f"{path} holds no graph output; it is not a whole ONNX model")


def _parse_failure(path: Path, errors: list[Any], record: Record) -> VitgraphError:
    codes = {error.code().name for error in errors}
    said = "; ".join(_parser_words(error) for error in errors) or "it gave no reason"
    if "MODEL_DESERIALIZE_FAILED" in codes:
        return InputError(f"{path} is not an ONNX model, or is cut short; write it again")
    data = [message for message in record.errors if "Failed to open file" in message or "file size=" in message]
    if data:
        return InputError(f"{path}: its external data is missing or cut short: {reasons(data)}")
    return EngineBuildError(f"TensorRT cannot read {path.name}: {said}")


def _parser_words(error: Any) -> str:
    node = f"node {error.node_name()} ({error.node_operator()}): " if error.node_name() else ""
    kind = error.code().name.lower().replace("_", " ")
    return f"{node}{kind}: {_tidy(error.desc())}".removesuffix(": false")


def _set_profile(builder: Any, network: Any, config: Any, batch: BatchSizes | None) -> None:
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


def make_logger(trt: Any, record: Record) -> Any:
    """A logger of this flavour that files every message in `record`."""

    def start(self: Any) -> None:
        trt.ILogger.__init__(self)

    def log(self: Any, severity: Any, message: str) -> None:
        record.take(int(severity), message)

    return type("RecordingLogger", (trt.ILogger,), {"__init__": start, "log": log})()


def _make_monitor(trt: Any, watch: Watch) -> Any:
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


def reasons(errors: list[str]) -> str:
    """The builder's violations in one line, each once."""
    return "; ".join(dict.fromkeys(_tidy(error) for error in errors)) or "it gave no reason"


def _tidy(message: str) -> str:
    """A builder's message without its own function names, error numbers and source places.

    >>> _tidy("IBuilder::build: Error Code 1: Myelin ([pass.cpp:3: f] Cannot compile 'a/MatMul'. In run at /_src/x.cpp:20)")
    "Cannot compile 'a/MatMul'."
    """
    return _PLACE.sub("", _PREFIX.sub("", message)).strip()
