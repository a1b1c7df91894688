"""An engine's layers as data, read from what TensorRT says about them.

Two sources, one form: the builder's VERBOSE message that starts with `Layers:` (the only one to be had without a GPU)
and the JSON of an `EngineInspector` (full TensorRT, on the device). ONNX node names are `<module path>/<Op>`, so each
layer leads back to the modules it computes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from vitgraph.errors import VitgraphError
from vitgraph.reading import parse_json

_TYPES = {
    "Float": "fp32",
    "Half": "fp16",
    "BFloat16": "bf16",
    "Int8": "int8",
    "UInt8": "uint8",
    "FP8": "fp8",
    "FP4": "fp4",
    "Int4": "int4",
    "Int32": "int32",
    "Int64": "int64",
    "Bool": "bool",
}
_FORMAT_WORDS = {"FP32": "fp32", "FP16": "fp16", "BF16": "bf16", "INT8": "int8", "INT32": "int32", "INT64": "int64"}
_LAYER = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), (?P<rest>.*)$")
_SECTION = re.compile(r"(Inputs|Constants|Outputs): \[(.*?)\](?=, (?:Constants|Outputs|TacticName): )")
_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: \[([^\]]*)\].*?, Datatype: (\w+)")
_TACTIC = re.compile(r"TacticName: ([^,]*)")
_NODE = "[ONNX Layer: "
_NODE_END = re.compile(r"\](?=[\x1e\x1f,]|\Z)")
_REPEAT = re.compile(r"_\d+$")


@dataclass(frozen=True)
class EngineTensor:
    """A tensor at a layer's edge; `dtype` in our spelling (int8, fp16, bf16, fp32, …), -1 for a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class EngineLayer:
    """One kernel (or a copy, a wait, …) of an engine, with the ONNX nodes it computes."""

    name: str
    kind: str
    inputs: tuple[EngineTensor, ...]
    constants: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    tactic: str
    nodes: tuple[str, ...]

    @property
    def modules(self) -> tuple[str, ...]:
        """The module paths of `nodes`, each once, in their order."""
        return tuple(dict.fromkeys(module_of(node) for node in self.nodes))

    @property
    def is_fused_attention(self) -> bool:
        """Whether this one kernel computes softmax(QKᵀ)V."""
        return "mha" in self.name.lower() or "mha" in self.tactic.lower()

    @property
    def is_convolution(self) -> bool:
        """Whether this is a convolution kernel, fused with its surroundings or not."""
        fused = self.kind == "runtime_fusion" and any(op_of(node) == "Conv" for node in self.nodes)
        return fused or self.kind.lower() in ("correlation", "convolution", "caskconvolution")

    @property
    def is_gemm(self) -> bool:
        """Whether this is a matrix product that is neither a convolution nor part of a fused attention."""
        if self.is_fused_attention or self.is_convolution:
            return False
        return self.kind in ("gemm", "runtime_fusion", "MatrixMultiply")

    @property
    def compute_type(self) -> str:
        """The type the products are computed in: int8 where two operands are INT8, else the widest floating operand."""
        operands = [t.dtype for t in self.inputs if t.dtype != "bool"]
        if not self.is_fused_attention:
            operands += [t.dtype for t in self.constants if t.dtype == "int8" or _is_matrix(t)]
        # Some inspectors list no constants: then a `gemm` shows its INT8 input alone.
        if operands.count("int8") >= 2 or (self.kind == "gemm" and operands == ["int8"]):
            return "int8"
        return next((kind for kind in ("fp32", "bf16", "fp16", "fp8") if kind in operands), "unknown")

    def types(self) -> str:
        """The edge types in short, e.g. `int8,fp16 -> fp16`."""
        return f"{','.join(t.dtype for t in self.inputs)} -> {','.join(t.dtype for t in self.outputs)}"

    def as_json(self) -> dict[str, Any]:
        """This layer for `engine.json`."""
        computes = self.is_gemm or self.is_convolution or self.is_fused_attention
        return {
            "name": self.name,
            "kind": self.kind,
            "type": self.compute_type if computes else None,
            "fused_attention": self.is_fused_attention,
            "inputs": [_tensor_json(t) for t in self.inputs],
            "constants": [_tensor_json(t) for t in self.constants],
            "outputs": [_tensor_json(t) for t in self.outputs],
            "tactic": self.tactic,
            "nodes": list(self.nodes),
            "modules": list(self.modules),
        }


def module_of(node: str) -> str:
    """The module path of an ONNX node name.

    >>> module_of("blocks.3.mlp.fc1/MatMul_2")
    'blocks.3.mlp.fc1'
    """
    return node.rpartition("/")[0]


def op_of(node: str) -> str:
    """The operator of an ONNX node name, without the suffix of a repeated one.

    >>> op_of("blocks.0.attn/MatMul_2")
    'MatMul'
    """
    return _REPEAT.sub("", node.rpartition("/")[2])


def parse_layers_message(message: str) -> tuple[EngineLayer, ...]:
    """The layers in one `Layers:` message of the builder (ProfilingVerbosity.DETAILED).

    VitgraphError where a line of it cannot be read: a layer missed would make every count wrong.
    """
    body = message.removeprefix("Layers:").split("\nI/O Tensors:")[0]
    return tuple(_parse_line(line) for line in body.splitlines() if line.strip())


def parse_inspector_json(text: str, origin: str = "the engine's layers") -> tuple[EngineLayer, ...]:
    """The layers in the JSON of `EngineInspector.get_engine_information` (full TensorRT, DETAILED)."""
    rows = cast(list[Any], parse_json(text, origin, nan=True).get("Layers", []))
    if any(not isinstance(row, dict) for row in rows):
        raise VitgraphError("the engine was built without layer details; build it with ProfilingVerbosity.DETAILED")
    return tuple(_layer_of_row(cast(Mapping[str, Any], row)) for row in rows)


def _parse_line(line: str) -> EngineLayer:
    found = _LAYER.match(line)
    if found is None:
        raise VitgraphError(f"the builder's layer report has a line vitgraph cannot read: {line[:200]!r}")
    rest, metadata = found["rest"].partition(", Metadata: ")[::2]
    sections = {name: _parse_tensors(body) for name, body in _SECTION.findall(rest)}
    tactic = _TACTIC.search(rest)
    return EngineLayer(
        name=found["name"],
        kind=found["kind"],
        inputs=sections.get("Inputs", ()),
        constants=sections.get("Constants", ()),
        outputs=sections.get("Outputs", ()),
        tactic=tactic[1].strip() if tactic else "",
        nodes=_parse_nodes(metadata),
    )


def _parse_tensors(body: str) -> tuple[EngineTensor, ...]:
    return tuple(
        EngineTensor(
            name, _TYPES.get(str(kind), str(kind).lower()), tuple(_dimension(d) for d in shape.split(",") if d.strip())
        )
        for name, shape, kind in _TENSOR.findall(body)
    )


def _parse_nodes(metadata: str) -> tuple[str, ...]:
    """The names between `[ONNX Layer: ` and `]`; each piece is looked through once, as files may hold millions."""
    pieces = metadata.rstrip().split(_NODE)[1:]
    ends = [(piece, _NODE_END.search(piece)) for piece in pieces]
    return tuple(dict.fromkeys(piece[: end.start()] for piece, end in ends if end is not None))


def _dimension(text: str) -> int:
    return int(text) if re.fullmatch(r"\s*-?\d+\s*", text) else -1


def _layer_of_row(row: Mapping[str, Any]) -> EngineLayer:
    return EngineLayer(
        name=str(row.get("Name", "")),
        kind=str(row.get("LayerType", "")),
        inputs=_tensors_of_rows(row.get("Inputs", ())),
        constants=_tensors_of_rows(row.get("Constants", ())),
        outputs=_tensors_of_rows(row.get("Outputs", ())),
        tactic=str(row.get("TacticName", "")),
        nodes=_parse_nodes(str(row.get("Metadata", ""))),
    )


def _tensors_of_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[EngineTensor, ...]:
    return tuple(
        EngineTensor(
            str(row.get("Name", "")),
            _type_of_format(str(row.get("Datatype") or row.get("Format/Datatype", ""))),
            tuple(int(d) for d in row.get("Dimensions", ())),
        )
        for row in rows
    )


def _type_of_format(text: str) -> str:
    """The type in the inspector's spelling, which is a bare name (`Half`) or a phrase (`Row major linear FP16 format`)."""
    words = set(text.upper().split())
    return _TYPES.get(text) or next((kind for word, kind in _FORMAT_WORDS.items() if word in words), text.lower())


def _is_matrix(tensor: EngineTensor) -> bool:
    return sum(dimension > 1 for dimension in tensor.shape) >= 2


def _tensor_json(tensor: EngineTensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
