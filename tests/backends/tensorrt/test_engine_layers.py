import json

import pytest

from vitgraph.backends.tensorrt.engine_layers import (
    EngineLayer,
    EngineTensor,
    parse_inspector_json,
    parse_layers_message,
)
from vitgraph.errors import VitgraphError

EDGE = "Strides: [4,1], StrideOrder: [1,0], Datatype: {}, Format: (Linear) Row major linear format"
MESSAGE = f"""Layers:
Name: a.qkv/MatMul_myl0_3, LayerType: gemm, Inputs: [ {{ Name: x, Dimensions: [1,197,192], {EDGE.format("Int8")} }}], \
Constants: [ {{ Name: w, Dimensions: [1,192,576], {EDGE.format("Int8")} }}, \
{{ Name: alpha, Dimensions: [1], {EDGE.format("Float")} }}], \
Outputs: [ {{ Name: y, Dimensions: [1,197,576], {EDGE.format("Float")} }}], TacticName: __myelin_CASK_STUB, StreamId: 0, \
Metadata: [ONNX Layer: a.qkv/MatMul][ONNX Layer: a.qkv/DequantizeLinear]\x1f[ONNX Layer: a.qkv/DequantizeLinear_2]
Name: __myl_wait, LayerType: wait, Inputs: [], Outputs: [], TacticName: , StreamId: 1, Metadata: 

I/O Tensors:
 Name: x, IOMode: Input
"""


def layer(kind: str, inputs: str, constants: str = "", name: str = "k", nodes: tuple[str, ...] = ()) -> EngineLayer:
    """A layer from types written `int8:2x3,fp16:1x4`."""

    def tensors(text: str) -> tuple[EngineTensor, ...]:
        parts = [part.split(":") for part in text.split(",") if part]
        return tuple(EngineTensor("t", type_, tuple(map(int, shape.split("x")))) for type_, shape in parts)

    return EngineLayer(name, kind, tensors(inputs), tensors(constants), (), "", nodes)


def test_reads_the_builders_message() -> None:
    gemm, wait = parse_layers_message(MESSAGE)
    assert (gemm.name, gemm.kind, gemm.tactic) == ("a.qkv/MatMul_myl0_3", "gemm", "__myelin_CASK_STUB")
    assert gemm.inputs == (EngineTensor("x", "int8", (1, 197, 192)),)
    assert [t.dtype for t in gemm.constants] == ["int8", "fp32"]
    assert gemm.outputs == (EngineTensor("y", "fp32", (1, 197, 576)),)
    assert gemm.nodes == ("a.qkv/MatMul", "a.qkv/DequantizeLinear", "a.qkv/DequantizeLinear_2")
    assert gemm.modules == ("a.qkv",)
    assert (wait.kind, wait.inputs, wait.nodes, wait.is_gemm) == ("wait", (), (), False)


def test_a_line_it_cannot_read_is_an_error() -> None:
    with pytest.raises(VitgraphError, match="cannot read"):
        parse_layers_message(MESSAGE.replace("LayerType: wait", "Type: wait"))


def test_reads_the_inspectors_json() -> None:
    row = {
        "Name": "fc1",
        "LayerType": "gemm",
        "Inputs": [{"Name": "x", "Dimensions": [1, 4], "Format/Datatype": "Row major linear INT8 format"}],
        "Outputs": [{"Name": "y", "Dimensions": [1, 8], "Format/Datatype": "Half"}],
        "TacticName": "sm80_sparse_gemm",
        "Metadata": "[ONNX Layer: mlp.fc1/MatMul]\x1e[ONNX Layer: mlp.fc1/Add]",
    }
    (read,) = parse_inspector_json(json.dumps({"Layers": [row]}))
    assert read.types() == "int8 -> fp16"
    assert read.compute_type == "int8"
    assert read.nodes == ("mlp.fc1/MatMul", "mlp.fc1/Add")


def test_an_engine_without_details_is_refused() -> None:
    with pytest.raises(VitgraphError, match="DETAILED"):
        parse_inspector_json(json.dumps({"Layers": ["fc1"]}))


@pytest.mark.parametrize(
    ("made", "compute_type"),
    [
        (layer("gemm", "int8:1x4x8", "int8:8x16,fp32:1"), "int8"),
        (layer("gemm", "int8:4x8", "int8:8x1"), "int8"),
        (layer("runtime_fusion", "int8:4x8,fp16:1x8x16"), "fp16"),
        (layer("runtime_fusion", "fp16:4x8", "int8:8x16"), "fp16"),
        (layer("runtime_fusion", "bf16:4x8,bf16:4x8", "bf16:8x8"), "bf16"),
        (layer("gemm", "fp32:4x8", "fp32:8x8"), "fp32"),
        (layer("kgen", "int8:3x4x8,int8:3x8x4,int8:3x4x8", "fp16:1x3x4x4", name="_gemm_mha_v2"), "int8"),
        (layer("kgen", "fp16:3x4x8,fp16:3x8x4,fp16:3x4x8", name="_gemm_mha_v2"), "fp16"),
        (layer("kgen", "int8:3x4x8,fp16:3x8x4,fp16:3x4x8", name="_gemm_mha_v2"), "fp16"),
    ],
)
def test_compute_type(made: EngineLayer, compute_type: str) -> None:
    assert made.compute_type == compute_type


def test_kinds_are_told_apart() -> None:
    assert layer("gemm", "").is_gemm
    assert not layer("kgen", "").is_gemm
    assert not layer("kgen", "", name="_gemm_mha_v2").is_gemm
    convolution = layer("runtime_fusion", "", nodes=("patch_embed.proj/Conv",))
    assert convolution.is_convolution
    assert not convolution.is_gemm
    assert not layer("runtime_fusion", "", nodes=("fc1/MatMul",)).is_convolution


def test_names_of_nodes_end_where_their_layer_does() -> None:
    given = "[ONNX Layer: a[0]/Add][ONNX Layer: b]\x1e\x1f[ONNX Layer: c], x [ONNX Layer: d]  \n"
    assert _inspected(given) == ("a[0]/Add", "b", "c", "d")


def test_a_million_names_without_an_end_are_looked_through_once() -> None:
    assert _inspected("[ONNX Layer: " * 1_000_000) == ()


def _inspected(metadata: str) -> tuple[str, ...]:
    return parse_inspector_json(json.dumps({"Layers": [{"Name": "k", "Metadata": metadata}]}))[0].nodes
