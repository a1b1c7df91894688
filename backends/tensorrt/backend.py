"""TensorRT builds engines of ONNX files and runs them: `tensorrt_rtx` builds on any machine, full `tensorrt` on the GPU itself.

Both flavours share one code path; what a version lacks is found by asking for it (`getattr`), since the enum values and
names that overlap agree from 10.3 to 11.x and RTX. Networks are always strongly typed: the graph says the types.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vitgraph.backends.tensorrt.builder import BatchSizes as Sizes
from vitgraph.backends.tensorrt.builder import EngineBuildError, Record, Watch, build_plan, make_logger, reasons
from vitgraph.backends.tensorrt.contract_file import KEY, contract_to_json
from vitgraph.backends.tensorrt.engine import Engine, read_sparse_tactics
from vitgraph.backends.tensorrt.engine_check import EnginePlan, check_contract, judge_patterns
from vitgraph.backends.tensorrt.engine_layers import EngineLayer, parse_inspector_json, parse_layers_message
from vitgraph.errors import InputError, VitgraphError
from vitgraph.ir.batch import Batch
from vitgraph.ir.program import Program
from vitgraph.progress import Progress
from vitgraph.runtime.backend import Artifact, Source
from vitgraph.runtime.onnx_model import OnnxModel
from vitgraph.targets.capability import Flavour
from vitgraph.targets.target import Target

if TYPE_CHECKING:
    from vitgraph.backends.tensorrt.engine_runner import EngineRunner

_INSTALL = "pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings (Linux, x86-64)"


@dataclass(frozen=True)
class EngineBuild:
    """The engine of an ONNX file for a target, and the contract that it will be held to."""

    model: OnnxModel
    planned: EnginePlan
    target: Target
    batch: Batch

    def run(self, progress: Progress) -> Artifact:
        """`engine.plan`, `engine.json`, `build.log` and the contract's verdict; raises what `build_engine` raises."""
        sizes = (self.batch.least, self.batch.best, self.batch.most) if self.batch.dynamic else None
        engine = build_engine(
            self.model.path, self.target, sizes, lambda phase, done: progress(f"build: {phase}", round(100 * done), 100)
        )
        verdict = check_contract(engine, self.planned)
        listing = json.dumps({**engine.as_json(), KEY: contract_to_json(self.planned)}, indent=1) + "\n"
        files = {"engine.plan": engine.plan, "engine.json": listing.encode(), "build.log": engine.log.encode()}
        return Artifact(files, verdict.engine, verdict.violations)

    def defer(self) -> Artifact:
        """The command that builds the engine on the device itself, and the masks that the ONNX file lost."""
        violations = judge_patterns(self.planned)
        if self.target.compute_capability is None:
            return Artifact({}, violations=violations)
        return Artifact({"build_on_device.sh": self._device_script().encode()}, violations=violations)

    def _device_script(self) -> str:
        name, taken = next(iter(self.model.inputs.items()))
        shapes = ""
        if self.batch.dynamic:
            sizes = (("min", self.batch.least), ("opt", self.batch.best), ("max", self.batch.most))
            shapes = "".join(f" --{bound}Shapes={name}:{'x'.join(map(str, taken.at(size)))}" for bound, size in sizes)
        command = (
            f"trtexec --onnx={self.model.path.name} --saveEngine=engine.plan --stronglyTyped --sparsity=enable{shapes}"
            " --profilingVerbosity=detailed --exportLayerInfo=layers.json"
        )
        return (
            f"#!/bin/sh\n# Build the engine on the device ({self.target.title}), in this folder.\nset -eu\n{command}\n"
        )


class TensorRT:
    """Builds engines, holds them to their contract, and runs them."""

    name: ClassVar[str] = "tensorrt"
    source: ClassVar[Source] = "engine.plan"

    def refusal(self, target: Target | None) -> str | None:
        """Why no engine for `target` can be built on this machine; without one, why none can run on it."""
        from vitgraph.backends.tensorrt.loading import unrunnable_why  # brings torch; to list backends needs none

        return unrunnable_why() if target is None else unbuildable_why(target)

    def load(self, model: Program | Path, target: Target | None = None, *, threads: int = 0) -> EngineRunner:
        """An engine, by its file or the folder it lies in, on the GPU; `InputError` where it can't run here, each reason in one line."""
        from vitgraph.backends.tensorrt.loading import load_engine

        if not isinstance(model, Path):
            raise InputError(
                f"{model.name}: the tensorrt backend runs engines; `vitgraph compile` builds one of a program, name its folder"
            )
        return load_engine(model)

    def plan(self, program: Program, model: OnnxModel, target: Target, batch: Batch) -> EngineBuild:
        """What the engine of this file is to hold, read off the program and the file."""
        from vitgraph.backends.tensorrt.engine_plan import plan_engine  # brings onnx; to list backends needs none

        return EngineBuild(model, plan_engine(program, model, target), target, batch)


def unbuildable_why(target: Target) -> str | None:
    """Why no engine for `target` can be built on this machine, or None where one can."""
    if _full_tensorrt_serves(target):
        return None
    if "tensorrt_rtx" not in target.builders:
        return target.no_builder_here or f"no TensorRT flavour here builds for {target.name}"
    return _not_installed()


def _not_installed() -> str | None:
    if find_spec("tensorrt_rtx_libs") is None or find_spec("tensorrt_rtx_bindings") is None:
        return f"no TensorRT builder is installed; {_INSTALL}"
    return None


def build_engine(
    onnx_path: Path, target: Target, batch: Sizes | None = None, progress: Callable[[str, float], None] | None = None
) -> Engine:
    """Build the engine of an ONNX file for `target`; the same file gives the same plan bytes.

    `batch` is (min, opt, max) for inputs whose first dimension is dynamic. `progress` is called with a phase and the
    fraction of it that is done (0 to 1). KeyboardInterrupt cancels the build and is raised again.

    Raises InputError for a file that is not a whole ONNX model or a batch that does not fit it, EngineBuildError where
    the parser or builder refuses the graph, VitgraphError where no builder is at hand.
    """
    from vitgraph.backends.tensorrt.runtime import import_bindings  # brings torch; to list backends needs none

    _require_model_file(onnx_path)
    why = unbuildable_why(target)
    if why is not None:
        raise VitgraphError(f"cannot build an engine for {target.name} here: {why}")
    flavour: Flavour = "tensorrt" if _full_tensorrt_serves(target) else "tensorrt_rtx"
    trt = import_bindings(flavour)
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
        log=record.text(onnx_path),
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


def _run_cancellable(
    work: Callable[[], bytes | None], watch: Watch, progress: Callable[[str, float], None] | None
) -> bytes | None:
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
