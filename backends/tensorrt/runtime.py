"""The one place that knows which runtime an engine is run by: `tensorrt_rtx`, or `tensorrt` 10.3 to 11.x.

| | `tensorrt_rtx` | `tensorrt` |
|---|---|---|
| may it run here | `get_engine_validity` | loading it says |
| kernels | compiled when it first runs, kept in a runtime cache | in the plan |
| CUDA graphs | by the runtime itself | captured by who runs it |

The bindings come as `trt`, so that a stand-in can take their place. `tensorrt_rtx` 1.7 was met on machines without a GPU only,
full `tensorrt` only by its documentation: neither was seen to run an engine here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from vitgraph.backends.tensorrt.builder import Record, make_logger, reasons
from vitgraph.backends.tensorrt.plan_header import capabilities, is_rtx
from vitgraph.backends.tensorrt.validity import ran_out_of_memory, told
from vitgraph.errors import InputError
from vitgraph.targets.capability import Flavour

_TYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "BOOL": torch.bool,
    "FP8": torch.float8_e4m3fn,
}
_ABSENT = {
    "tensorrt_rtx": "it was built by TensorRT-RTX, which is not installed; pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings",
    "tensorrt": "it is no engine of TensorRT-RTX, and full TensorRT, which may have built it, is not installed; install the version that did",
}
TEXT = "JSON"
"""In which form an inspector tells layers."""


def installed_flavours() -> tuple[Flavour, ...]:
    """The runtimes that can be imported here."""
    rtx = find_spec("tensorrt_rtx_libs") is not None and find_spec("tensorrt_rtx_bindings") is not None
    found: list[Flavour] = ["tensorrt_rtx"] if rtx else []
    return (*found, "tensorrt") if find_spec("tensorrt") is not None else tuple(found)


def flavour_of(plan: bytes) -> Flavour:
    """Which runtime a plan is for."""
    return "tensorrt_rtx" if is_rtx(plan) else "tensorrt"


def import_bindings(flavour: Flavour) -> Any:
    """The bindings, which are untyped."""
    if flavour == "tensorrt":
        return import_module("tensorrt")
    import_module("tensorrt_rtx_libs")  # loads the shared objects that the bindings need
    return import_module("tensorrt_rtx_bindings")


@dataclass(frozen=True)
class Context:
    """What runs an engine, and the cache that it compiles its kernels into, where it has one."""

    context: Any
    cache: Any = None
    reused: bool = False
    """Whether the cache took in the kernels of an earlier run."""

    def kernels(self) -> bytes | None:
        """The kernels as they are kept; None where there are none to keep."""
        found = None if self.cache is None else self.cache.serialize()
        return None if found is None else bytes(found)


@dataclass(frozen=True)
class EngineRuntime:
    """A runtime and what it said."""

    trt: Any
    flavour: Flavour
    record: Record = field(default_factory=Record)
    runtime: Any = None

    @classmethod
    def of(cls, plan: bytes, name: str, load: Callable[[Flavour], Any] = import_bindings) -> EngineRuntime:
        """The runtime for a plan; `InputError` where it is not installed."""
        flavour = flavour_of(plan)
        try:
            trt, record = load(flavour), Record()
        except ImportError as error:
            raise InputError(f"{name}: {_ABSENT[flavour]}") from error
        return cls(trt, flavour, record, trt.Runtime(make_logger(trt, record)))

    @property
    def title(self) -> str:
        """Flavour and version, `tensorrt_rtx 1.7.1.116`."""
        return f"{self.flavour} {self.trt.__version__}"

    @property
    def captures_graphs(self) -> bool:
        """Whether it records CUDA graphs by itself."""
        return self.flavour == "tensorrt_rtx"

    def check(self, plan: bytes, name: str, capability: str) -> str | None:
        """Raise `InputError` with every reason why the plan can't run on a GPU of this capability; a warning where it runs below its best.

        Full TensorRT has no such question: there `load` says it.
        """
        ask = getattr(self.runtime, "get_engine_validity", None)
        if ask is None:
            return None
        state, bits = ask(plan)
        if state == self.trt.EngineValidity.INVALID:
            lines = told(self._diagnostics(int(bits)), capabilities(plan), capability)
            said = "; ".join(lines) or f"{self.title} refuses it without a reason: {self._said()}"
            raise InputError(f"{name}: {said}")
        if state == self.trt.EngineValidity.SUBOPTIMAL:
            return f"{name}: {self.title} runs it on this GPU slower than one that is built for it"
        return None

    def load(self, plan: bytes, name: str) -> Any:
        """The engine; `InputError` where the runtime does not take it."""
        engine = self.runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self.refused(name, "can't be loaded")
        return engine

    def context(self, engine: Any, name: str, kernels: bytes | None = None, graphs: bool = True) -> Context:
        """What runs it, with kernels of an earlier run where the runtime takes them; `InputError` where memory is short."""
        if not self.captures_graphs:
            return Context(self._made(engine.create_execution_context(), name))
        config = engine.create_runtime_config()
        strategy = self.trt.CudaGraphStrategy
        config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE if graphs else strategy.DISABLED
        config.dynamic_shapes_kernel_specialization_strategy = (
            self.trt.DynamicShapesKernelSpecializationStrategy.EAGER  # else the first runs are by fallback kernels
        )
        cache = config.create_runtime_cache()
        reused = kernels is not None and bool(cache.deserialize(kernels))
        config.set_runtime_cache(cache)
        return Context(self._made(engine.create_execution_context(config), name), cache, reused)

    def layers(self, engine: Any) -> str:
        """What the loaded engine's inspector tells, as JSON."""
        return str(engine.create_engine_inspector().get_engine_information(self.trt.LayerInformationFormat.JSON))

    def torch_type(self, engine: Any, tensor: str, name: str) -> torch.dtype:
        """The type of one of the engine's tensors; `InputError` where torch has none like it."""
        kind = str(engine.get_tensor_dtype(tensor).name)
        if kind not in _TYPES:
            raise InputError(f"{name}: its tensor {tensor} is {kind}, which torch has no tensors of")
        return _TYPES[kind]

    def profiler(self, report: Callable[[str, float], None]) -> Any:
        """An `IProfiler` that hands each layer's name and milliseconds to `report`."""
        trt = self.trt

        def start(profiler: Any) -> None:
            trt.IProfiler.__init__(profiler)

        def report_layer_time(profiler: Any, layer_name: str, ms: float) -> None:
            report(layer_name, ms)

        return type("LayerTimes", (trt.IProfiler,), {"__init__": start, "report_layer_time": report_layer_time})()

    def refused(self, name: str, what: str) -> InputError:
        """What to raise of a call that failed, with what the runtime said of it."""
        if ran_out_of_memory(self.record.errors):
            return InputError(f"{name}: the GPU's memory does not hold it; run smaller batches, or free memory")
        return InputError(f"{name}: {what} by {self.title}: {self._said()}")

    def _made(self, context: Any, name: str) -> Any:
        if context is None:
            raise self.refused(name, "can't be made ready to run")
        return context

    def _said(self) -> str:
        return reasons(self.record.errors or self.record.log[-1:])

    def _diagnostics(self, bits: int) -> list[str]:
        members: dict[str, Any] = self.trt.EngineInvalidityDiagnostics.__members__
        return [name for name, member in members.items() if bits & int(member)]
