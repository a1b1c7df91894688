"""ONNX operators one by one, in the operator sets that spell them otherwise: the numbers of ONNX Runtime."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.frontend.onnx.files import furthest, images_for, model, node, write
from vitgraph.frontend.from_onnx.open_onnx import RULES, open_onnx
from vitgraph.ir.tensor_type import Dim

RANDOM = np.random.default_rng(0)


def _floats(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def _whole(*values: int) -> Any:
    return np.array(values, np.int64)


W, B = _floats(8, 6), _floats(6)
CASES: dict[str, tuple[int, list[Any], dict[str, Any]]] = {
    "softmax over all that follows": (11, [node("Softmax", "x", axis=1)], {}),
    "softmax over one axis": (13, [node("Softmax", "x", axis=1)], {}),
    "squeeze by attribute": (11, [node("Unsqueeze", "x", "a", axes=[0, 3]), node("Squeeze", "a", axes=[0, 3])], {}),
    "squeeze by input": (13, [node("Unsqueeze", "x a", "b"), node("Squeeze", "b a")], {"a": _whole(0, 3)}),
    "split by attribute": (11, [node("Split", "x", "a y", axis=2, split=[3, 5])], {}),
    "split by input": (13, [node("Split", "x s", "a y", axis=2)], {"s": _whole(3, 5)}),
    "split by number": (18, [node("Split", "x", "a b y", axis=3, num_outputs=3)], {}),
    "mean by attribute": (13, [node("ReduceMean", "x", axes=[-1, 1], keepdims=0)], {}),
    "mean by input": (18, [node("ReduceMean", "x a", keepdims=1)], {"a": _whole(-1)}),
    "sum of nothing": (13, [node("ReduceSum", "x", noop_with_empty_axes=1)], {}),
    "sum of all": (13, [node("ReduceSum", "x", keepdims=1)], {}),
    "max": (20, [node("ReduceMax", "x a")], {"a": _whole(2)}),
    "norm": (18, [node("ReduceL2", "x a")], {"a": _whole(1)}),
    "clip": (13, [node("Clip", "x _ h")], {"h": np.array(0.5, np.float32)}),
    "pad": (13, [node("Pad", "x p v")], {"p": _whole(0, 0, 1, 2, 0, 0, 0, 3), "v": np.array(2.0, np.float32)}),
    "pad of some axes": (18, [node("Pad", "x p _ a", mode="reflect")], {"p": _whole(1, 2), "a": _whole(-1)}),
    "slice": (13, [node("Slice", "x s e a t")],
              {"s": _whole(1, -2), "e": _whole(2**62, -1), "a": _whole(2, 3), "t": _whole(2, 1)}),
    "slice backwards": (13, [node("Slice", "x s e a t")],
                        {"s": _whole(-1), "e": _whole(-(2**62)), "a": _whole(3), "t": _whole(-1)}),
    "gather of a row": (13, [node("Gather", "x i", axis=2)], {"i": np.array(-1, np.int64)}),
    "gather of a table": (13, [node("Gather", "x i", axis=2)], {"i": np.array([[1, -1], [0, 3]], np.int64)}),
    "flatten": (13, [node("Flatten", "x", axis=2)], {}),
    "reshape that keeps sizes": (13, [node("Reshape", "x s")], {"s": _whole(0, 0, -1)}),
    "reshape to nothing kept": (14, [node("Reshape", "x s", allowzero=1)], {"s": _whole(-1, 3, 64)}),
    "expand both ways": (13, [node("ReduceMean", "x", "m", axes=[1]), node("Expand", "m s")], {"s": _whole(5, 1, 8)}),
    "tile": (13, [node("Tile", "x r")], {"r": _whole(1, 2, 1, 3)}),
    "transposed gemm": (13, [node("Flatten", "x", "f", axis=1), node("Gemm", "f w b", transB=1)],
                        {"w": _floats(5, 192), "b": _floats(5)}),
    "scaled gemm": (13, [node("Flatten", "x", "f"), node("Gemm", "f w b", alpha=0.5, beta=2.0)],
                    {"w": _floats(192, 5), "b": _floats(5)}),
    "matmul and bias": (13, [node("MatMul", "x w", "m"), node("Add", "b m")], {"w": W, "b": B}),
    "matmul read twice": (13, [node("MatMul", "x w", "m"), node("Add", "m b", "a"), node("Mul", "m a")], {"w": W, "b": B}),
    "matmul from the left": (13, [node("MatMul", "w x")], {"w": _floats(5, 8)}),
    "conv of other pads": (11, [node("Conv", "x w b", pads=[0, 1, 2, 1], strides=[2, 1])],
                           {"w": _floats(4, 3, 3, 3), "b": _floats(4)}),
    "conv of the same size": (11, [node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2], group=3)],
                              {"w": _floats(6, 1, 3, 3)}),
    "layer norm": (17, [node("LayerNormalization", "x w b", axis=-2, epsilon=1e-3)], {"w": _floats(8, 8), "b": _floats(8, 8)}),
    "batch norm": (15, [node("BatchNormalization", "x w b m v")],
                   {"w": _floats(3), "b": _floats(3), "m": _floats(3), "v": np.abs(_floats(3))}),
    "instance norm": (13, [node("InstanceNormalization", "x w b")], {"w": _floats(3), "b": _floats(3)}),
    "group norm": (21, [node("GroupNormalization", "x w b", num_groups=1)], {"w": _floats(3), "b": _floats(3)}),
    "pools": (13, [node("MaxPool", "x", "m", kernel_shape=[3, 3], pads=[1, 1, 0, 0], strides=[2, 2]),
                   node("AveragePool", "m", kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=0)], {}),
    "global pool": (13, [node("GlobalAveragePool", "x")], {}),
    "resize by factor": (13, [node("Resize", "x _ s", mode="linear", coordinate_transformation_mode="half_pixel")],
                         {"s": np.array([1, 1, 2, 1.5], np.float32)}),
    "resize to a size": (13, [node("Resize", "x _ _ s", mode="cubic", coordinate_transformation_mode="align_corners")],
                         {"s": _whole(2, 3, 5, 11)}),
    "resize to the nearest": (11, [node("Resize", "x r s", mode="nearest", coordinate_transformation_mode="asymmetric",
                                        nearest_mode="floor")],
                              {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 2, 2], np.float32)}),
    "einsum": (13, [node("Einsum", "x w", equation="bchw,wk->bckh")], {"w": W}),
    "where": (13, [node("Greater", "x z", "c"), node("Where", "c x z")], {"z": np.array(0.1, np.float32)}),
    "cast": (13, [node("Cast", "x", "i", to=7), node("Mod", "i m", "r"), node("Cast", "r", to=1)], {"m": np.array(3, np.int64)}),
    "quotient of numbers from the left": (13, [node("Exp", "x", "e"), node("Div", "n e", "d"), node("Sub", "n d")],
                                          {"n": np.array(2.0, np.float32)}),
    "powers": (15, [node("Abs", "x", "a"), node("Pow", "a p", "q"), node("Sqrt", "q", "r"), node("Reciprocal", "r", "s"),
                    node("Min", "s m")], {"p": np.array(3.0, np.float32), "m": np.array(9.0, np.float32)}),
    "space and depth": (13, [node("SpaceToDepth", "x", "s", blocksize=2), node("DepthToSpace", "s", blocksize=2, mode="DCR")], {}),
    "activations": (18, [node("HardSwish", "x", "a"), node("Mish", "a", "b"), node("LeakyRelu", "b", "c", alpha=0.2),
                         node("HardSigmoid", "c", "d", alpha=0.3), node("Elu", "d", "e"), node("Softplus", "e", "f"), node("Erf", "f")], {}),
    "attention": (23, [node("Attention", "x x x", scale=0.3)], {}),
    "gelu": (20, [node("Gelu", "x", approximate="tanh")], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_onnx_runtime(name: str, tmp_path: Path) -> None:
    opset, nodes, constants = CASES[name]
    path = write(model(nodes, constants, opset=opset), tmp_path)
    assert furthest(open_onnx(path), path) < 1e-4


def test_every_rule_is_of_an_operator_of_onnx() -> None:
    schemas: Any = onnx.defs
    known = {schema.name for schema in schemas.get_all_schemas_with_history() if schema.domain == ""}
    assert set(RULES) <= known


@given(st.lists(st.integers(0, 3), min_size=4, max_size=4, unique=True), st.integers(2, 4))
def test_shape_arithmetic_is_known_for_any_batch(order: list[int], batch: int) -> None:
    """Sizes are read off a tensor, picked, multiplied, joined and reshaped to."""
    nodes = [
        node("Transpose", "x", "t", perm=order),
        node("Shape", "t", "s"),
        node("Gather", "s i", "one", axis=0),
        node("Squeeze", "one none", "scalar"),
        node("Unsqueeze", "scalar none", "vector"),
        node("Concat", "vector minus", "wanted", axis=0),
        node("Reshape", "t wanted", "y"),
    ]
    constants = {"i": _whole(0), "none": _whole(0), "minus": _whole(-1)}
    with tempfile.TemporaryDirectory() as folder:
        path = write(model(nodes, constants, opset=13), Path(folder))
        program = open_onnx(path)
        assert furthest(program, path, batch) < 1e-6
        assert program.input_types()[0].shape[0] == Dim(1, 0)


def test_a_token_is_expanded_to_the_batch(tmp_path: Path) -> None:
    """As TorchScript writes `expand(batch, -1, -1)`: ones where the shape says -1."""
    nodes = [
        node("Reshape", "x flat", "f"),
        node("Shape", "f", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Unsqueeze", "n first", "v"),
        node("Concat", "v minus minus", "sizes", axis=0),
        node("Shape", "sizes", "many"),
        node("ConstantOfShape", "many", "ones", value=numpy_helper.from_array(np.array([1], np.int64))),
        node("Mul", "ones minus", "negative"),
        node("Equal", "sizes negative", "same"),
        node("Where", "same ones sizes", "whole"),
        node("Expand", "token whole", "e"),
        node("Concat", "e f", "y", axis=1),
    ]
    constants = {
        "flat": _whole(0, 3, 64), "zero": np.array(0, np.int64), "first": _whole(0), "minus": _whole(-1), "token": _floats(1, 1, 64),
    }  # fmt: skip
    path = write(model(nodes, constants, opset=13), tmp_path)
    program = open_onnx(path)
    assert furthest(program, path, 1) == furthest(program, path, 3) == 0
    assert program.run(images_for(program, 3)).shape == torch.Size([3, 4, 64])


@pytest.mark.parametrize("folder", [True, False], ids=["beside", "inside"])
def test_weights_may_lie_beside_the_file(folder: bool, tmp_path: Path) -> None:
    made = model([node("MatMul", "x w")], {"w": _floats(8, 300)})
    saver: Any = onnx
    saver.save(made, str(tmp_path / "m.onnx"), save_as_external_data=folder, location="w.bin", size_threshold=0)
    assert (tmp_path / "w.bin").exists() is folder
    assert furthest(open_onnx(tmp_path / "m.onnx"), tmp_path / "m.onnx") < 1e-4
