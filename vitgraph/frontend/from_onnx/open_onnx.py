"""An ONNX file as a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx

from vitgraph.errors import InputError
from vitgraph.frontend.from_onnx.arithmetic import ARITHMETIC
from vitgraph.frontend.from_onnx.element_types import as_tensor
from vitgraph.frontend.from_onnx.importing import Importer, Rule
from vitgraph.frontend.from_onnx.layers import LAYERS
from vitgraph.frontend.from_onnx.layout import LAYOUT
from vitgraph.frontend.from_onnx.names import module_path
from vitgraph.frontend.from_onnx.node import OnnxNode
from vitgraph.frontend.from_onnx.quantizers import QUANTIZERS
from vitgraph.frontend.from_onnx.read_file import OnnxFile, read_file
from vitgraph.frontend.from_onnx.reductions import REDUCTIONS
from vitgraph.frontend.from_onnx.rolled import roll_activations
from vitgraph.frontend.from_onnx.shapes import SHAPES
from vitgraph.frontend.from_onnx.values import Codes, Known, Refusal, Value
from vitgraph.ir.file_bounds import check_memory
from vitgraph.ir.names import check_value_name
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, Size, TensorType
from vitgraph.ir.verify import check_read

RULES: Mapping[str, Rule] = {**ARITHMETIC, **SHAPES, **LAYOUT, **LAYERS, **REDUCTIONS, **QUANTIZERS}
"""By operator of ONNX's own domain; its versions are told apart in the rules."""
_DOMAINS = ("", "ai.onnx")
_SHOWN = 12
"""Nodes that a refusal names; the rest are counted."""


def open_onnx(path: Path, image_size: tuple[int, int] | None = None) -> Program:
    """The program of an ONNX file that takes one batch of images, in float32.

    Its batch is open where the file leaves it open; `image_size` is (height, width) for a file that leaves that open too.
    Raises `InputError` where the file can't be read or a node can't be taken; the message names all such nodes.
    """
    file = read_file(path)
    return to_program(file, *_input(file, image_size))


def to_program(file: OnnxFile, name: str, kind: TensorType) -> Program:
    """The program of a graph whose one input has this name and type; `InputError` names what can't be taken."""
    path = file.path
    program = _begun(path, kind, name)
    importer = Importer(program, _elements(file.graph))
    results = _Reading(file, importer).read(program.inputs[0])
    program.output.args = (results[0] if len(results) == 1 else tuple(results),)
    roll_activations(program)
    program.clean()
    check_read(program, str(path))
    try:
        check_memory(program)
    except ValueError as error:
        raise InputError(f"{path}: {error}; give a smaller --image-size, or another file") from error
    made_by = f" by {file.producer}" if file.producer else ""
    program.provenance.update({"source": f"ONNX opset {file.opset}{made_by}", "weights": str(path)})
    return program


def _begun(path: Path, kind: TensorType, name: str) -> Program:
    """A program that gives its input."""
    graph = fx.Graph()
    taken = graph.placeholder(name)
    taken.meta.update(type=kind, path="")
    graph.output(taken)
    return Program(fx.GraphModule(torch.nn.Module(), graph), path.stem, "captured")


def _elements(graph: Any) -> int:
    return sum(int(value.const_value.size) for value in graph.initializers.values() if value.const_value is not None)


def _input(file: OnnxFile, image_size: tuple[int, int] | None) -> tuple[str, TensorType]:
    """Name and type of the one input; `InputError` where there are more or it is no batch of images."""
    held = set(file.graph.initializers)
    inputs = [value for value in file.graph.inputs if value.name not in held]
    told = ", ".join(f"{value.name} {value.type} {value.shape}"[:80] for value in inputs[:4])
    if len(inputs) != 1 or not _is_batch_of_images(inputs[0].shape):
        raise InputError(
            f"{file.path}: a model takes one input [batch, 1 or 3, height, width]; this takes {told or 'none'}; "
            "export it with the images as its only input"
        )
    given = inputs[0]
    if given.dtype is None or int(given.dtype) != 1:
        raise InputError(
            f"{file.path}: its input {told} is not float32; export it in float32, normalized images going in"
        )
    sizes: list[Size] = [size if isinstance(size, int) else -1 for size in given.shape]
    sizes[0] = Dim(1, 0) if sizes[0] == -1 else sizes[0]
    sizes[1] = 3 if sizes[1] == -1 else sizes[1]
    return _named(str(given.name)), TensorType(torch.float32, _with_size(file, sizes, image_size))


def _is_batch_of_images(shape: Any) -> bool:
    """Whether it has four sizes, of which the second may be 1 or 3."""
    return shape is not None and len(shape) == 4 and (not isinstance(shape[1], int) or shape[1] in (1, 3))


def _with_size(file: OnnxFile, sizes: list[Size], image_size: tuple[int, int] | None) -> tuple[Size, ...]:
    open_size = -1 in sizes[2:]
    if open_size and image_size is None:
        raise InputError(f"{file.path}: leaves the size of its images open; give --image-size")
    wanted = sizes[2:] if image_size is None else list(image_size)
    if any(have not in (-1, size) for have, size in zip(sizes[2:], wanted, strict=True)):
        raise InputError(
            f"{file.path}: takes images of {sizes[2]}x{sizes[3]}, not {wanted[0]}x{wanted[1]}; leave --image-size out, or "
            "export it for that size"
        )
    return (*sizes[:2], *wanted)


def _named(name: str) -> str:
    try:
        return check_value_name(name)
    except ValueError:
        return "x"


class _Reading:
    """The nodes of a graph, one after another; what can't be taken is collected."""

    def __init__(self, file: OnnxFile, importer: Importer) -> None:
        self._file, self._importer = file, importer
        self._values = dict[Any, Value]()
        self._refused = list[tuple[Any, str]]()
        self._ours = file.producer.startswith("vitgraph")

    def read(self, image: fx.Node) -> list[fx.Node]:
        """The nodes of the graph's outputs; `InputError` names every node that can't be taken."""
        graph = self._file.graph
        needed = _needed(graph)
        unknown = [node for node in graph if node in needed and _rule(node) is None]
        if unknown:
            raise self._unread([(node, "") for node in unknown])
        held = set(graph.initializers)
        self._values.update({value: image for value in graph.inputs if value.name not in held})
        for node in graph:
            if node in needed:
                self._take(node)
        if self._refused:
            raise self._unread(self._refused)
        return [self._result(value) for value in graph.outputs]

    def _take(self, node: Any) -> None:
        """Write one node; nothing where a node that it reads was refused."""
        try:
            inputs = [None if value is None else self._value(value) for value in node.inputs]
        except KeyError:
            return
        except Refusal as error:
            self._refused.append((node, str(error)))
            return
        self._importer.path = module_path(node, self._ours)
        rule = _rule(node)
        assert rule is not None
        try:
            made = rule(self._importer, OnnxNode(node, inputs, self._file.opset))
        except Refusal as error:
            self._refused.append((node, str(error)))
            return
        except (ValueError, TypeError, IndexError, RuntimeError, AttributeError, ZeroDivisionError) as error:
            self._refused.append((node, f"its arguments don't fit: {str(error)[:120]}"))
            return
        results = made if isinstance(made, tuple) else (made,)
        self._values.update(zip(node.outputs, results, strict=False))

    def _value(self, value: Any) -> Value:
        if value not in self._values and value.const_value is not None:
            self._values[value] = Known((as_tensor(value.const_value),), str(value.name or ""))
        return self._values[value]

    def _result(self, value: Any) -> fx.Node:
        try:
            found = self._value(value)
        except KeyError:
            raise InputError(f"{self._file.path}: nothing gives its output {value.name}; export it again") from None
        if isinstance(found, Codes):
            raise InputError(f"{self._file.path}: its output {value.name} is quantized codes; dequantize it")
        return self._importer.node(found)

    def _unread(self, refused: Sequence[tuple[Any, str]]) -> InputError:
        """All that can't be taken, by name."""
        told = [
            f"{node.name or node.outputs[0].name} ({_called(node)}){': ' if why else ''}{why}" for node, why in refused
        ]
        rest = f", and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        counts = Counter(_called(node) for node, _ in refused)
        listed = ", ".join(f"{count} {name}" for name, count in counts.most_common(_SHOWN))
        return InputError(
            f"{self._file.path}: {len(refused)} node{'s' * (len(refused) > 1)} can't be taken ({listed}): "
            f"{'; '.join(told[:_SHOWN])}{rest}; "
            "export the model in eval mode with ONNX's own operators, or give its module"
        )


def _called(node: Any) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in _DOMAINS else str(node.op_type)


def _rule(node: Any) -> Rule | None:
    return RULES.get(node.op_type) if node.domain in _DOMAINS else None


def _needed(graph: Any) -> set[Any]:
    """The nodes that the outputs hang on."""
    found, open_values = set[Any](), list(graph.outputs)
    while open_values:
        node = open_values.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            open_values += [value for value in node.inputs if value is not None]
    return found
