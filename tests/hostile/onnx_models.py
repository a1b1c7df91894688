"""ONNX models of images that would grow without end, or reach for what is not theirs, where they are read as programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.hostile.case import Case, Commands

untyped: Any = helper
READ: Commands = (
    ("opt", "d/m.onnx", "--pipeline", "canonicalize"),
    ("inspect", "d/m.onnx", "--cost"),
    ("compile", "d/m.onnx", "--target", "a100", "--recipe", "fp16", "-o", "out"),
)


def _model(nodes: list[Any], **constants: Any) -> Any:
    graph = untyped.make_graph(
        nodes,
        "g",
        [untyped.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [untyped.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return untyped.make_model(graph, opset_imports=[untyped.make_opsetid("", 17)], ir_version=8)


def _node(op: str, inputs: str, output: str = "y", **attributes: Any) -> Any:
    return untyped.make_node(op, inputs.split(), [output], **attributes)


def _external(location: str, **more: str) -> Any:
    made = _model([_node("MatMul", "x w")], w=np.ones((8, 8), np.float32))
    weight = made.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        weight.external_data.add(key=key, value=value)
    return made


def _functions(depth: int, turns: bool) -> Any:
    """Functions that call the next twice; with `turns` the last calls the first."""
    made = _model([_node("F0", "x", domain="own")])
    imports = [untyped.make_opsetid("", 17), untyped.make_opsetid("own", 1)]
    for level in range(depth):
        last = level + 1 == depth
        op, domain = ("F0" if turns else "Relu", "own" if turns else "") if last else (f"F{level + 1}", "own")
        calls = [_node(op, "a", "m", domain=domain), _node(op, "m", "b", domain=domain)]
        made.functions.append(untyped.make_function("own", f"F{level}", ["a"], ["b"], calls, imports))
    made.opset_import.append(untyped.make_opsetid("own", 1))
    return made


def _doubled(times: int, *, of_image: bool) -> Any:
    """A value joined with itself again and again."""
    first = "x" if of_image else "w"
    nodes = [_node("Concat", f"{f'v{turn}' if turn else first} {f'v{turn}' if turn else first}", f"v{turn + 1}", axis=1)
             for turn in range(times)]  # fmt: skip
    return _model(
        [*nodes, _node("Add", f"x v{times}")], **({} if of_image else {"w": np.ones((1, 3, 8, 8), np.float32)})
    )


def _lying() -> Any:
    """A weight that says it has 2^40 rows."""
    made = _model([_node("MatMul", "x w")], w=np.ones((8, 8), np.float32))
    made.graph.initializer[0].dims[0] = 2**40
    return made


def _models() -> Iterator[tuple[str, Any]]:
    yield "functions that double", _functions(28, turns=False)
    yield "functions in a circle", _functions(5, turns=True)
    yield "a constant that doubles", _doubled(40, of_image=False)
    yield "an image that doubles", _doubled(60, of_image=True)
    yield (
        "a constant of any size",
        _model([_node("ConstantOfShape", "s", "c"), _node("Add", "x c")], s=np.array([2**40], np.int64)),
    )
    yield "a range without end", _model(
        [_node("Range", "a b c", "r"), _node("Reshape", "x r")],
        a=np.array(0, np.int64), b=np.array(2**60, np.int64), c=np.array(1, np.int64),
    )  # fmt: skip
    yield (
        "a range in no steps",
        _model(
            [_node("Range", "a b a", "r"), _node("Reshape", "x r")], a=np.array(0, np.int64), b=np.array(9, np.int64)
        ),
    )
    yield (
        "the least number by -1",
        _model(
            [_node("Div", "a b", "d"), _node("Reshape", "x d")],
            a=np.array([-(2**63)], np.int64),
            b=np.array([-1], np.int64),
        ),
    )
    yield "an index far out", _model([_node("Gather", "x i", axis=2)], i=np.array([2**40], np.int64))
    yield "a weight that lies", _lying()
    yield "data at an absolute path", _external("/etc/hostname")
    yield "data in the folder above", _external("../secret.bin", length="256")
    yield "data on a device", _external("/dev/zero", length="256")
    yield "data at an offset beyond", _external("m.onnx", offset=str(2**62), length="256")
    yield "data of another length", _external("w.bin", length="8")


def cases() -> list[Case]:
    """All of them."""
    return [
        Case(
            f"ONNX as a model: {name}",
            {"d/m.onnx": made.SerializeToString(), "secret.bin": bytes(256), "d/w.bin": bytes(256)},
            READ[:1] if position % 3 else READ,
        )
        for position, (name, made) in enumerate(_models())
    ]
