"""What OpenVINO executes: the type of each linear and attention, found by the names that its kernels keep of their nodes.

A kernel says which nodes it was made of. Those of a quantized linear name its product, those of one in floating point only the
addition of its bias, which took its place; an attention is found by its softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vitgraph.runtime.backend import Execution

_PRODUCTS = ("FullyConnected", "Convolution", "MatMul", "Subgraph", "ScaledDotProductAttention", "Softmax", "MHA")
_LINEAR = ("MatMul", "Convolution", "GroupConvolution")
_ON_THE_WAY = ("Convert", "Multiply", "Subtract", "Reshape", "Transpose", "Unsqueeze", "FakeQuantize")
"""What stands between a constant and the product that reads it: dequantization and views."""
_TYPES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "f64": "fp64"}
_SETTINGS = ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT")


@dataclass(frozen=True)
class RuntimeKernel:
    """A node that OpenVINO executes."""

    kind: str
    """Its layer type: FullyConnected, Convolution, MatMul, Subgraph (a fused group), ..."""
    precision: str
    """The type of what it reads or writes: i8, u8, bf16, f32, ..."""
    primitive: str
    """The implementation, such as brgemm_avx512_i8."""
    names: frozenset[str]
    """The nodes of the model it was made of, where OpenVINO kept track."""

    @property
    def computes(self) -> str:
        """The type of its products. Its implementation says INT8: INT4 weights have precision i4 and run in BF16."""
        if self.primitive.lower().endswith("_i8"):
            return "int8"
        return _TYPES.get(self.precision) or _TYPES.get(self.primitive.rpartition("_")[2].lower(), "unknown")


def describe(model: Any, compiled: Any) -> Execution:
    """The types of a compiled model's linears and attentions; `model` is what it was compiled from."""
    kernels = [kernel for kernel in map(_kernel, compiled.get_runtime_model().get_ops()) if kernel.kind in _PRODUCTS]
    operators = model.get_ordered_ops()
    linears = (op for op in operators if op.get_type_name() in _LINEAR and _is_weight(op.input_value(1).get_node()))
    softmaxes = (op for op in operators if op.get_type_name() in ("Softmax", "SoftMax"))
    return Execution(dict(_types(linears, kernels)), dict(_types(softmaxes, kernels)), _settings(compiled))


def _types(operators: Iterable[Any], kernels: list[RuntimeKernel]) -> Iterator[tuple[str, str]]:
    """Module path (the node's name where a module has several) and type of each."""
    seen = set[str]()
    for op in operators:
        name = str(op.friendly_name).removesuffix("/WithoutBiases")
        path = name.rpartition("/")[0] or name
        found = _computed_by(kernels, [str(op.friendly_name), name, *_downstream(op)])
        yield name if path in seen else path, found.computes if found else "unknown"
        seen.add(path)


def _computed_by(kernels: list[RuntimeKernel], nodes: Iterable[str]) -> RuntimeKernel | None:
    """The kernel that one of these nodes went into, the first named first. OpenVINO's own nodes extend a node's name."""
    for node in nodes:
        exact = [kernel for kernel in kernels if node in kernel.names]
        own = exact or [kernel for kernel in kernels if any(name.startswith(f"{node}/") for name in kernel.names)]
        if own:
            return own[0]
    return None


def _downstream(op: Any) -> Iterator[str]:
    """The sum that adds a product's bias, and the cast after it."""
    while len(users := op.output(0).get_target_inputs()) == 1:
        op = next(iter(users)).get_node()
        if op.get_type_name() not in ("Add", "Convert"):
            return
        yield str(op.friendly_name)


def _is_weight(node: Any) -> bool:
    """Whether an operand is a constant, as it is or dequantized."""
    while node.get_type_name() in _ON_THE_WAY:
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def _kernel(op: Any) -> RuntimeKernel:
    info = op.get_rt_info()

    def text(key: str) -> str:
        return str(info[key].astype(str))

    names = {name for name in text("originalLayersNames").split(",") if name} | {str(op.friendly_name)}
    return RuntimeKernel(text("layerType"), text("runtimePrecision"), text("primitiveType"), frozenset(names))


def _settings(compiled: Any) -> dict[str, str]:
    """What was decided for this machine: the type of floating point, threads and the instruction set."""
    found = {key.lower(): str(compiled.get_property(key)) for key in _SETTINGS}
    found["inference_precision_hint"] = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    return found
