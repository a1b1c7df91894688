"""What an ONNX file is refused for: one `InputError` that names file, fault and remedy; nothing is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.frontend.onnx.files import model, node, untyped, write
from vitgraph.errors import InputError
from vitgraph.frontend.from_onnx.open_onnx import open_onnx
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.frontend.open_model import open_model, open_program
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.ir.batch import Batch
from vitgraph.ir.tensor_type import Dim

W = np.ones((8, 4), np.float32)
HUGE = np.array([1 << 20, 1 << 20], np.int64)


def _linear(**changes: Any) -> Any:
    return model([node("MatMul", "x w")], {"w": W}, **changes)


def _two_inputs() -> Any:
    made = _linear()
    made.graph.input.append(untyped.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    return made


def _external(location: str) -> Any:
    made = _linear()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return made


def _recursive() -> Any:
    made = model([untyped.make_node("F", ["x"], ["y"], domain="local")])
    call = untyped.make_node("F", ["a"], ["b"], domain="local")
    imports = [untyped.make_opsetid("", 17), untyped.make_opsetid("local", 1)]
    made.functions.append(untyped.make_function("local", "F", ["a"], ["b"], [call], imports))
    made.opset_import.append(untyped.make_opsetid("local", 1))
    return made


def _doubling() -> Any:
    """Forty functions, each of which calls the next twice."""
    made = model([untyped.make_node("F0", ["x"], ["y"], domain="local")])
    imports = [untyped.make_opsetid("", 17), untyped.make_opsetid("local", 1)]
    for level in range(30):
        domain, op = ("local", f"F{level + 1}") if level < 29 else ("", "Relu")
        calls = [untyped.make_node(op, [a], [b], domain=domain) for a, b in (("a", "m"), ("m", "b"))]
        made.functions.append(untyped.make_function("local", f"F{level}", ["a"], ["b"], calls, imports))
    made.opset_import.append(untyped.make_opsetid("local", 1))
    return made


MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "opset too old": (lambda: _linear(opset=10), r"is of opset 10; export it again with an opset from 11 to 25"),
    "opset too new": (lambda: _linear(opset=30), r"is of opset 30; export it again"),
    "two inputs": (_two_inputs, r"this takes x .*, mask .*; export it with the images as its only input"),
    "no image": (lambda: _linear(shape=(2, 8)), r"one input \[batch, 1 or 3, height, width\]"),
    "five channels": (lambda: _linear(shape=(1, 5, 8, 8)), r"1 or 3"),
    "whole numbers": (lambda: _linear(kind=TensorProto.INT64), r"is not float32; export it in float32"),
    "open size": (lambda: _linear(shape=("n", 3, "h", "w")), r"leaves the size of its images open; give --image-size"),
    "external data gone": (lambda: _external("w.bin"), r"external data of ONNX .*w\.bin can't be read: No such file"),
    "external data above": (lambda: _external("../w.bin"), r"'\.\./w\.bin' lies outside the file's folder"),
    "external data absolute": (lambda: _external("/etc/hostname"), r"lies outside the file's folder"),
    "external data short": (lambda: _external("m.onnx"), r"end at byte 1,?.*copy the whole file|can't be read|end at byte"),
    "function of itself": (_recursive, r"calls itself|can't be read"),
    "functions without number": (_doubling, r"come to [\d,]+ nodes, over the 20,000"),
    "sizes without number": (
        lambda: model([node("ConstantOfShape", "s", "c"), node("ReduceSum", "c", "r"), node("Add", "x r")], {"s": HUGE}),
        r"/c/ConstantOfShape \(ConstantOfShape\): 1,099,511,627,776 elements are over",
    ),
    "constants that grow": (
        lambda: model([node("Expand", "w s", "e"), node("Expand", "w s", "f"), node("Concat", "e f e f", "c", axis=0),
                       node("ReduceSum", "c", "r"), node("Add", "x r")], {"w": np.ones((1, 1), np.float32), "s": HUGE // 128}),
        r"far larger than they are",
    ),
    "shapes that do not fit": (lambda: model([node("Add", "x w")], {"w": np.ones((5, 5), np.float32)}), r"/y/Add \(Add\): "),
    "a quotient by zero": (
        lambda: model([node("Shape", "x", "s"), node("Div", "s z", "d"), node("Reshape", "x d")], {"z": np.zeros(1, np.int64)}),
        r"/d/Div \(Div\): whole numbers are divided by 0",
    ),
    "a size that the image decides": (
        lambda: model([node("Cast", "x", "i", to=7), node("Reshape", "x i")]),
        r"its shape is computed from the image",
    ),
    "unsigned codes": (
        lambda: model([node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")],
                      {"s": np.array(0.1, np.float32), "z": np.array(128, np.uint8)}),
        r"\(QuantizeLinear\): its codes are uint8; quantize it symmetrically to INT8, or export the model without Q/DQ",
    ),
    "a zero point": (
        lambda: model([node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")],
                      {"s": np.array(0.1, np.float32), "z": np.array(3, np.int8)}),
        r"its zero point is not 0; quantize it symmetrically",
    ),
    "codes computed with": (
        lambda: model([node("QuantizeLinear", "x s z", "q"), node("Transpose", "q", "t"), node("DequantizeLinear", "t s z")],
                      {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}),
        r"it computes with quantized codes",
    ),
    "an average of places apart": (
        lambda: model([node("AveragePool", "x", kernel_shape=[2, 2], dilations=[2, 2])], opset=19), r"places that lie apart",
    ),
    "a resize that keeps the shape": (
        lambda: model([node("Resize", "x _ _ s", keep_aspect_ratio_policy="not_larger", mode="linear")],
                      {"s": np.array([2, 3, 5, 11], np.int64)}, opset=18),
        r"keeps the shape of the image",
    ),
    "a resize to one column": (
        lambda: model([node("Resize", "x _ _ s", coordinate_transformation_mode="pytorch_half_pixel", mode="linear")],
                      {"s": np.array([2, 3, 5, 1], np.int64)}, opset=18),
        r"takes the first pixel",
    ),
    "a slice backwards through a part": (
        lambda: model([node("Slice", "x s e a t")], {"s": np.array([-1]), "e": np.array([-4]), "a": np.array([3]), "t": np.array([-1])}),
        r"backwards through a part",
    ),
    "training": (
        lambda: model([node("Dropout", "x r t")], {"r": np.array(0.5, np.float32), "t": np.array(True)}), r"export the model in eval mode",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_refused(name: str, tmp_path: Path) -> None:
    make, told = MODELS[name]
    path = write(make(), tmp_path)
    with pytest.raises(InputError, match=told) as caught:
        open_model(ModelRequest(path))
    assert str(path) in str(caught.value) or "w.bin" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"anything", b"\x08\x08", bytes(range(256)) * 10])
def test_no_onnx_at_all(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"m\.onnx: (can't be read as ONNX|is no ONNX model)"):
        open_onnx(tmp_path / "m.onnx")


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    whole = write(_linear(), tmp_path).read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "m.onnx").write_bytes(whole[:length])
        with pytest.raises(InputError):
            open_onnx(tmp_path / "m.onnx")


def test_all_that_can_not_be_taken_is_named_together(tmp_path: Path) -> None:
    nodes = [
        node("NonZero", "x", "a"),
        untyped.make_node("Fancy", ["x"], ["b"], domain="com.example", name="fancy"),
        node("GridSample", "x x", "c"),
        node("Det", "x", "unread"),
        node("Concat", "a b c", axis=0),
    ]
    made = model(nodes, opset=17)
    with pytest.raises(InputError, match="3 nodes can't be taken") as caught:
        open_onnx(write(made, tmp_path))
    message = str(caught.value)
    assert all(part in message for part in ("/a/NonZero (NonZero)", "fancy (com.example.Fancy)", "/c/GridSample"))
    assert "Det" not in message  # nothing hangs on it
    assert message.endswith("or give its module")


def test_settings_of_another_model_are_refused(tmp_path: Path) -> None:
    path = write(_linear(shape=(2, 3, 8, 8)), tmp_path)
    with pytest.raises(InputError, match="is an ONNX file, it has these settings in it; leave out --weights"):
        open_model(ModelRequest(path, weights="random"))
    with pytest.raises(InputError, match="takes images of 8x8, not 9x9; leave --image-size out"):
        open_model(ModelRequest(path, preprocessing=PreprocessingOptions(image_size=(9, 9))))
    with pytest.raises(InputError, match="batch of 2, not 4"):
        open_program(ModelRequest(path), Batch(4, 4, 4))


def test_what_the_request_says_is_kept(tmp_path: Path) -> None:
    """An open size is given, an open batch is fixed where it is asked for, and the images' settings stay with the program."""
    path = write(_linear(shape=("n", "c", "h", 8)), tmp_path)
    options = PreprocessingOptions(image_size=(12, 8), mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
    request = ModelRequest(path, preprocessing=options)
    assert open_program(request).input_types()[0].shape == (Dim(1, 0), 3, 12, 8)
    fixed = open_program(request, Batch(4, 4, 4))
    assert fixed.input_types()[0].shape == (4, 3, 12, 8)
    assert fixed.provenance["preprocessing"]["mean"] == [0.1, 0.2, 0.3]
    found = open_model(request)
    assert found.preprocessing is not None
    assert (found.preprocessing.mean, found.input_shape) == ((0.1, 0.2, 0.3), (3, 12, 8))
    assert found.notes == (f"compiled from the ONNX file {path}",)
    assert found.source.startswith("ONNX opset 17")
