"""Bindings of TensorRT that pretend: the calls that a runner makes, on engines that a few words describe.

An engine takes images `[N, 3, 2]` and gives twice the first two numbers of each, `[N, 2]`, unless it is described otherwise. Its plan is the header that
TensorRT-RTX writes and its description as JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import torch

from tests.backends.pretended_card import PretendedCard


class EngineValidity(IntEnum):
    VALID, SUBOPTIMAL, INVALID = range(3)


class EngineInvalidityDiagnostics(IntEnum):
    VERSION_MISMATCH, UNSUPPORTED_CC, OLD_CUDA_DRIVER, OLD_CUDA_RUNTIME = 1, 2, 4, 8
    INSUFFICIENT_GPU_MEMORY, MALFORMED_ENGINE, CUDA_ERROR = 16, 32, 64


class CudaGraphStrategy(IntEnum):
    DISABLED, WHOLE_GRAPH_CAPTURE = range(2)


class DynamicShapesKernelSpecializationStrategy(IntEnum):
    LAZY, EAGER, NONE = range(3)


class TensorIOMode(IntEnum):
    NONE, INPUT, OUTPUT = range(3)


class LayerInformationFormat(IntEnum):
    ONELINE, JSON = range(2)


class DataType(IntEnum):
    FLOAT, HALF, FP4 = range(3)


class ILogger:
    def __init__(self) -> None:
        """As the real one has it."""

    def log(self, severity: int, message: str) -> None:
        """Overridden."""


class IProfiler:
    def __init__(self) -> None:
        """As the real one has it."""

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Overridden."""


def plan_of(mask: int = 2, magic: bytes = b"vtrt", **description: Any) -> bytes:
    """The bytes of an engine; `mask` says for which capabilities it was compiled."""
    head = magic.ljust(0x20, bytes(1)) + mask.to_bytes(4, "little")
    return head + json.dumps(description).encode()


@dataclass
class FakeCache:
    """Kernels: the batch sizes that were met."""

    held: list[int] = field(default_factory=list[int])

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(b"kernels "):
            return False
        self.held = json.loads(blob.removeprefix(b"kernels "))
        return True

    def serialize(self) -> bytes:
        return b"kernels " + json.dumps(self.held).encode()


class FakeConfig:
    cuda_graph_strategy = CudaGraphStrategy.DISABLED
    dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
    cache: FakeCache | None = None

    def create_runtime_cache(self) -> FakeCache:
        return FakeCache()

    def set_runtime_cache(self, cache: FakeCache) -> bool:
        self.cache = cache
        return True


class FakeContext:
    profiler: Any = None

    def __init__(self, engine: "FakeEngine", config: FakeConfig | None) -> None:
        self.engine, self.config = engine, config
        self.addresses, self.profile = dict[str, int](), 0
        self.shape: tuple[int, ...] = ()
        self.runs = 0
        engine.contexts.append(self)

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert stream == 77
        self.profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.profiles[self.profile]
        self.shape = tuple(shape)
        return name in self.engine.tensors and least <= shape[0] <= most

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape if name == "image" else (self.shape[0], self.engine.width)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name != self.engine.described.get("unbindable")

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 77
        if self.engine.described.get("fails"):
            self.engine.runtime.say(self.engine.described["fails"])
            return False
        memory = self.engine.runtime.trt.card.memory
        image, answer = memory[self.addresses["image"]], memory[self.addresses["answer"]]
        answer.copy_(2 * image.flatten(1)[:, : self.engine.width])
        self.runs += 1
        if self.config is not None and self.config.cache is not None:
            self.config.cache.held = sorted({*self.config.cache.held, self.shape[0]})
        if self.profiler is not None:
            for layer in self.engine.layers:
                self.profiler.report_layer_time(layer["Name"], 0.25)
        return True


class FakeEngine:
    def __init__(self, runtime: "FakeRuntime", described: dict[str, Any]) -> None:
        self.runtime, self.described = runtime, described
        self.profiles: list[list[int]] = described.get("profiles", [[1, 4, 8]])
        self.tensors: dict[str, str] = described.get("tensors", {"image": "INPUT", "answer": "OUTPUT"})
        self.layers: list[dict[str, Any]] = described.get("layers", [])
        self.contexts = list[FakeContext]()
        self.width: int = described.get("width", 2)
        self.num_io_tensors, self.num_optimization_profiles = len(self.tensors), len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode[self.tensors[name]]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self.described.get("type", "FLOAT")]

    def get_tensor_shape(self, name: str) -> list[int]:
        shape: list[int] = self.described.get("shape", [-1, 3, 2])
        return shape

    def get_tensor_profile_shape(self, name: str, index: int) -> list[Sequence[int]]:
        return [[size, *self.get_tensor_shape(name)[1:]] for size in self.profiles[index]]

    def create_runtime_config(self) -> FakeConfig:
        return FakeConfig()

    def create_execution_context(self, config: FakeConfig | None = None) -> FakeContext | None:
        if self.described.get("no_context"):
            self.runtime.say(self.described["no_context"])
            return None
        return FakeContext(self, config)

    def create_engine_inspector(self) -> "FakeEngine":
        return self

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        assert form == LayerInformationFormat.JSON
        return str(self.described.get("inspected") or json.dumps({"Layers": self.layers}))


class FakeRuntime:
    def __init__(self, trt: "FakeBindings", logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def say(self, message: str) -> None:
        self.logger.log(1, message)

    def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
        described = json.loads(plan[0x24:])
        if described.get("unloadable"):
            self.say(described["unloadable"])
            return None
        self.trt.engines.append(FakeEngine(self, described))
        return self.trt.engines[-1]


class RtxRuntime(FakeRuntime):
    def get_engine_validity(self, plan: bytes) -> tuple[EngineValidity, int]:
        state, bits = json.loads(plan[0x24:]).get("validity", [0, 0])
        return EngineValidity(state), bits


class FakeBindings:
    """What `import tensorrt` gives; with `rtx` what `import tensorrt_rtx_bindings` does."""

    __version__ = "1.7.1"
    EngineValidity, EngineInvalidityDiagnostics, TensorIOMode = (
        EngineValidity,
        EngineInvalidityDiagnostics,
        TensorIOMode,
    )
    CudaGraphStrategy, LayerInformationFormat = CudaGraphStrategy, LayerInformationFormat
    DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy
    ILogger, IProfiler = ILogger, IProfiler

    def __init__(self, card: PretendedCard, rtx: bool = True) -> None:
        self.card, self.rtx = card, rtx
        self.engines = list[FakeEngine]()

    def Runtime(self, logger: Any) -> FakeRuntime:
        return RtxRuntime(self, logger) if self.rtx else FakeRuntime(self, logger)


def answer_to(images: torch.Tensor) -> torch.Tensor:
    """What an engine gives for images."""
    return 2 * images.flatten(1)[:, :2]
