"""ONNX files that are broken, foreign or odd, at the commands that read them: inspect, bench, evaluate."""

import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.bad_inputs.mistake import Make, Mistake, each, hold
from tests.tools.conftest import Cli

untyped: Any = helper
FLOAT = TensorProto.FLOAT
NAME = "m.onnx"
Change = Callable[[Any], None]
"""What is done to a good model."""


def _model() -> Any:
    """x [1, 4] times a weight [4, 2]."""
    weight = numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    graph = untyped.make_graph(
        [untyped.make_node("MatMul", ["x", "w"], ["y"], "fc/MatMul")],
        "g",
        [untyped.make_tensor_value_info("x", FLOAT, [1, 4])],
        [untyped.make_tensor_value_info("y", FLOAT, [1, 2])],
        [weight],
    )
    return untyped.make_model(graph, opset_imports=[untyped.make_opsetid("", 17)], ir_version=8)


def _changed(change: Change) -> bytes:
    model = _model()
    change(model)
    content: bytes = model.SerializeToString()
    return content


def _node(model: Any, *arguments: Any, **attributes: Any) -> None:
    """Put one node in the place of the graph's."""
    del model.graph.node[:]
    model.graph.node.append(untyped.make_node(*arguments, **attributes))


def _operator(name: str, domain: str = "") -> Change:
    return lambda model: _node(model, name, ["x", "w"], ["y"], domain=domain)


def _opset(version: int) -> Change:
    def change(model: Any) -> None:
        model.opset_import[0].version = version

    return change


def _ir(version: int) -> Change:
    def change(model: Any) -> None:
        model.ir_version = version

    return change


def _clear(field: str) -> Change:
    return lambda model: model.graph.ClearField(field)


def _input_of(kind: int, *shape: int | str) -> Change:
    def change(model: Any) -> None:
        del model.graph.input[:]
        model.graph.input.append(untyped.make_tensor_value_info("x", kind, shape))

    return change


def _more_inputs(model: Any) -> None:
    model.graph.input.append(untyped.make_tensor_value_info("z", FLOAT, [1, 4]))
    _node(model, "Add", ["x", "z"], ["y"])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4


def _weight(**fields: Any) -> Change:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        for name, value in fields.items():
            tensor.ClearField(name)
            if isinstance(value, list):
                getattr(tensor, name).extend(value)
            else:
                setattr(tensor, name, value)

    return change


def _external(location: str, **more: str) -> Change:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **more}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    return change


def _circle(model: Any) -> None:
    del model.graph.node[:]
    model.graph.node.extend([untyped.make_node("Add", ["x", "b"], ["y"]), untyped.make_node("Relu", ["y"], ["b"])])


def _twice(model: Any) -> None:
    model.graph.node.append(model.graph.node[0])


def _bad_type(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 999


def _no_node_output(model: Any) -> None:
    del model.graph.node[0].output[:]


def _out_of_range(model: Any) -> None:
    """A Gather of row 99 of 4, which only running it shows."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([99], np.int64), "row"))
    del model.graph.node[:]
    model.graph.node.extend(
        [untyped.make_node("Gather", ["w", "row"], ["r"]), untyped.make_node("MatMul", ["x", "t"], ["y"])]
    )
    model.graph.node.insert(1, untyped.make_node("Add", ["w", "r"], ["t"]))


def _texts_out(model: Any) -> None:
    _node(model, "Cast", ["x"], ["y"], to=TensorProto.STRING)
    del model.graph.output[:]
    model.graph.output.append(untyped.make_tensor_value_info("y", TensorProto.STRING, [1, 4]))


def _sequence_out(model: Any) -> None:
    _node(model, "SequenceConstruct", ["x"], ["y"])
    del model.graph.output[:]
    model.graph.output.append(untyped.make_tensor_sequence_value_info("y", FLOAT, [1, 4]))


def _nested() -> bytes:
    """Graphs in graphs, 500 deep, which no writer of protobuf would make: graph, node (1), attribute (5), graph (6)."""
    graph = b""
    for _ in range(500):
        for number in (6, 5, 1):
            graph = bytes([number << 3 | 2]) + _varint(len(graph)) + graph
    return bytes([7 << 3 | 2]) + _varint(len(graph)) + graph


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m.onnx", _model().SerializeToString())


def _program(path: Path) -> None:
    from tests.planted import MLP
    from vitgraph.ir.parser import parse
    from vitgraph.ir.program_file import save

    save(parse(MLP), path)


BENCH, INSPECT = ("bench", NAME, "--rounds", "1"), ("inspect", NAME)


def _row(command: tuple[str, ...], name: str, content: str | bytes | Make, *says: str) -> Mistake:
    return Mistake(f"{command[0]}: {name}", command, (NAME, *says), {NAME: content})


def _model_with(command: tuple[str, ...], name: str, change: Change, *says: str) -> Mistake:
    return _row(command, name, _changed(change), *says)


inspected, measured = partial(_model_with, INSPECT), partial(_model_with, BENCH)
BOTH: dict[str, str | bytes | Make] = {
    "empty": b"",
    "words": "these are words",
    "zeros": bytes(100),
    "random bytes": bytes(range(256)) * 8,
    "cut short": _model().SerializeToString()[:-40],
    "a zip": _zipped,
    "a saved program": _program,
    "a FIFO": _fifo,
    "a link to itself": _loop,
    "graphs in graphs": _nested(),
    "no graph": onnx.ModelProto().SerializeToString(),
}
FILES = [_row(command, name, content) for name, content in BOTH.items() for command in (BENCH, INSPECT)]
INSPECTED = [
    inspected("an operator that is none", _operator("MatMull"), "MatMull"),
    inspected("opset 0", _opset(0)),
    inspected("no opset", lambda model: model.ClearField("opset_import")),
    inspected("a later IR", _ir(999)),
    inspected("IR 0", _ir(0)),
    inspected("a circle", _circle),
    inspected("a value made twice", _twice),
    inspected("a node without results", _no_node_output),
    inspected("an input of no known type", _bad_type),
    inspected("a weight of fewer bytes than its shape", _weight(dims=[4, 3])),
    inspected("a weight of a negative size", _weight(dims=[-4, 2])),
    inspected("a weight of 2^60 elements", _weight(dims=[2**30, 2**30])),
    inspected("a weight of no type", _weight(data_type=0)),
    inspected("a weight of an unknown type", _weight(data_type=999)),
    inspected("external data that are absent", _external("absent.bin")),
    inspected("external data at an absolute path", _external("/etc/passwd")),
    inspected("external data in the folder above", _external("../secret.bin")),
    inspected("external data at an offset beyond", _external(NAME, offset="999999", length="32")),
    inspected("external data at an offset of words", _external(NAME, offset="ten", length="32")),
    inspected("external data of a negative length", _external(NAME, offset="0", length="-32")),
    Mistake("inspect: an absent file", ("inspect", "none.onnx"), ("none.onnx",)),
    Mistake("inspect: a folder", INSPECT, (NAME,), {NAME: _folder}),
    Mistake(
        "inspect: costs of an ONNX file", ("inspect", NAME, "--cost"), (NAME,), {NAME: _model().SerializeToString()}
    ),
    Mistake(
        "inspect: a node that is not there",
        (*INSPECT, "--node", "zzz"),
        (NAME, "zzz"),
        {NAME: _model().SerializeToString()},
    ),
]
MEASURED = [
    measured("an operator that is none", _operator("MatMull"), "MatMull"),
    measured("an operator of another domain", _operator("Gadget", "com.example")),
    measured("no output", _clear("output")),
    measured("no input", _clear("input")),
    measured("two inputs", _more_inputs, "has 2 inputs"),
    measured("texts in", _input_of(TensorProto.STRING, 1, 4)),
    measured("whole numbers in", _input_of(TensorProto.INT64, 1, 4)),
    measured("texts out", _texts_out),
    measured("a sequence out", _sequence_out),
    measured("a row that is not there", _out_of_range),
    measured("an opset that is none", _opset(9_999)),
    measured("a later IR", _ir(999)),
    measured("a circle", _circle),
    measured("a weight of fewer bytes than its shape", _weight(dims=[4, 3])),
    measured("a weight of a negative size", _weight(dims=[-4, 2])),
    measured("a weight of 2^60 elements", _weight(dims=[2**30, 2**30])),
    measured("external data that are absent", _external("absent.bin")),
    measured("external data at an absolute path", _external("/etc/passwd")),
    measured("external data in the folder above", _external("../secret.bin")),
    measured("an open size that is no batch", _input_of(FLOAT, 1, "width")),
    Mistake("bench: an absent file", ("bench", "none.onnx"), ("none.onnx",)),
    Mistake("bench: a folder", BENCH, (NAME,), {NAME: _folder}),
    Mistake(
        "bench: a backend that is none",
        (*BENCH, "--backend", "abacus"),
        ("abacus",),
        {NAME: _model().SerializeToString()},
    ),
]
ELSEWHERE = [
    Mistake(f"{command[0]}: an ONNX file in place of a model", command, (NAME,), {NAME: _model().SerializeToString()})
    for command in [
        ("compile", NAME, "--target", "a100", "--recipe", "fp16", "-o", "out"),
        ("opt", NAME, "--pipeline", "canonicalize"),
        ("bisect", NAME, "--pipeline", "canonicalize", "--check", "sqnr>20"),
        ("evaluate", NAME, "--data", "digits:test"),
    ]
]
MISTAKES = FILES + INSPECTED + MEASURED + ELSEWHERE


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)


@pytest.mark.parametrize("command", [INSPECT, BENCH])
def test_the_model_without_a_mistake_is_read(command: tuple[str, ...], cli: Cli) -> None:
    Path(NAME).write_bytes(_model().SerializeToString())
    ran = cli(*command)
    assert ran.status == 0, ran.err
