from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.backends.onnx_vit import Type, Vit, linear_nodes, make_vit, onnx, write_vit
from vitgraph.backends.onnx.stored_weights import StoredWeight, read_weights
from vitgraph.ir.packing import Packing

TWO_OF_FOUR = Packing(2, 4)


def test_reads_the_weights_of_every_linear(tmp_path: Path) -> None:
    vit = Vit(masked=True)
    weights = read_weights(write_vit(vit, tmp_path / "m.onnx"))
    assert list(weights) == linear_nodes(vit)
    assert weights["blocks.0.mlp.fc1/MatMul"].values.shape == (64, 256)
    assert all(weight.k_axis == 0 and weight.follows(TWO_OF_FOUR) for weight in weights.values())


def test_a_dense_weight_does_not_follow_the_pattern(tmp_path: Path) -> None:
    weights = read_weights(write_vit(Vit(), tmp_path / "m.onnx"))
    assert not any(weight.follows(TWO_OF_FOUR) for weight in weights.values())


def test_a_float_graph_has_none(tmp_path: Path) -> None:
    assert read_weights(write_vit(Vit("none"), tmp_path / "m.onnx")) == {}


@pytest.mark.parametrize("stream", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("masked", [True, False])
def test_of_weights_in_floating_point_the_zeros_are_read(stream: Type, masked: bool, tmp_path: Path) -> None:
    vit = Vit("none", stream=stream, masked=masked)
    weights = read_weights(write_vit(vit, tmp_path / "m.onnx"), floats=True)
    assert set(weights) >= set(linear_nodes(vit))
    for node in linear_nodes(vit):
        assert weights[node].format == stream
        assert not weights[node].quantized
        assert weights[node].follows(TWO_OF_FOUR) == masked


def test_the_negative_zero_of_fp8_is_a_zero() -> None:
    values = np.array([[1], [-128], [-127], [-128]], np.int8)  # bits 0x80: what -w times 0 gives
    assert StoredWeight(values, 0, False, "fp8").follows(TWO_OF_FOUR)
    assert StoredWeight(values, 0, False, "fp8").kept.numpy().tobytes() == b"\1\0\1\0"
    assert not StoredWeight(values, 0, False, "int8").follows(TWO_OF_FOUR)


def test_tiles_lie_along_the_outputs() -> None:
    """`[K, N]` with other columns of K for the first sixteen outputs than for the next."""
    values = np.zeros((8, 32), np.int8)
    values[:2, :16] = values[6:, 16:] = 1
    assert StoredWeight(values, 0, False).follows(Packing(2, 8, v=16))
    values[:, :8] = np.tile(np.array([[0, 0], [0, 1]], np.int8), (4, 4))
    assert not StoredWeight(values, 0, False).follows(Packing(2, 8, v=16))


def test_external_data(tmp_path: Path) -> None:
    onnx.save(make_vit(Vit(masked=True)), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    assert all(weight.follows(TWO_OF_FOUR) for weight in read_weights(tmp_path / "m.onnx").values())


@pytest.mark.parametrize(("k_axis", "follows"), [(0, True), (1, False)])
def test_the_axis_matters(k_axis: int, follows: bool) -> None:
    values = np.tile(np.array([[1], [1], [0], [0]], np.int8), (2, 8))
    assert StoredWeight(values, k_axis, False).follows(TWO_OF_FOUR) == follows


def test_k_must_be_a_multiple_of_m() -> None:
    assert not StoredWeight(np.zeros((6, 8), np.int8), 0, False).follows(TWO_OF_FOUR)


@pytest.mark.parametrize(("op", "shape", "k_axis"), [("Gemm", (16, 8), 1), ("Conv", (16, 8, 1, 1), 1)])
def test_gemm_and_conv_sum_over_axis_one(op: str, shape: tuple[int, ...], k_axis: int, tmp_path: Path) -> None:
    attributes: dict[str, Any] = {"transB": 1} if op == "Gemm" else {}
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "s"], ["w"], name="l/DequantizeLinear"),
        helper.make_node(op, ["x", "w"], ["y"], name=f"l/{op}", **attributes),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8] if op == "Gemm" else [1, 8, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16] if op == "Gemm" else [1, 16, 4, 4])
    constants = [
        numpy_helper.from_array(np.ones(shape, np.int8), "w8"),
        numpy_helper.from_array(np.asarray(0.1, np.float32), "s"),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "m.onnx")
    (weight,) = read_weights(tmp_path / "m.onnx").values()
    assert (weight.k_axis, weight.convolution) == (k_axis, op == "Conv")
