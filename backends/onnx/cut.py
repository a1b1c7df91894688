"""A part of an ONNX file as a model of its own: what makes some values of others that are handed in."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import onnx


class Cutter:
    """An ONNX file, to cut parts out of; constants that lie in a file beside it stay there, and parts point to them."""

    def __init__(self, path: Path) -> None:
        self._file = onnx.load(str(path), load_external_data=False)  # pyright: ignore[reportUnknownMemberType]

    def part(self, wanted: Collection[str], given: Collection[str]) -> onnx.ModelProto:
        """A model whose outputs are the values `wanted` and whose inputs are those of the values `given` that they are made of.

        A value may be wanted and given: then it is made, and its consumers read what is given under the name of `fed`.
        """
        chosen = self._nodes_before(wanted, set(given))
        nodes = [_reading(self._file.graph.node[position], given) for position in sorted(chosen)]
        names = {name for node in nodes for name in node.input}
        inputs = [value for name, value in self._values.items() if name in names and name not in self._producers]
        inputs += [_renamed(self._values[name], fed(name)) for name in given if fed(name) in names]
        outputs = [self._values[name] for name in wanted]
        constants = [each for each in self._file.graph.initializer if each.name in names]
        graph = onnx.helper.make_graph(nodes, "part", inputs, outputs, constants)
        return onnx.helper.make_model(graph, opset_imports=self._file.opset_import, ir_version=self._file.ir_version)  # pyright: ignore

    def makes(self, name: str) -> bool:
        """Whether a node makes this value; inputs and constants are there without."""
        return name in self._producers

    def knows(self, name: str) -> bool:
        """Whether the file says of which type the value is: only then it can be wanted, or given."""
        return name in self._values

    def has(self, name: str) -> bool:
        """Whether there is such a value, or constant, at all."""
        return name in self._producers or name in self._values or name in self._constants

    @cached_property
    def _constants(self) -> frozenset[str]:
        return frozenset(each.name for each in self._file.graph.initializer)

    @cached_property
    def _producers(self) -> dict[str, int]:
        return {name: position for position, node in enumerate(self._file.graph.node) for name in node.output}

    @cached_property
    def _values(self) -> dict[str, onnx.ValueInfoProto]:
        graph = self._file.graph
        return {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}

    def _nodes_before(self, wanted: Collection[str], given: set[str]) -> set[int]:
        chosen, todo = set[int](), [self._producers[name] for name in wanted]
        while todo:
            position = todo.pop()
            if position in chosen:
                continue
            chosen.add(position)
            needed = self._file.graph.node[position].input
            todo += [self._producers[name] for name in needed if name in self._producers and name not in given]
        return chosen


def fed(name: str) -> str:
    """What a value that is handed in is called in a part."""
    return f"given/{name}"


def _reading(node: onnx.NodeProto, given: Collection[str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for position, name in enumerate(node.input):
        if name in given:
            copy.input[position] = fed(name)
    return copy


def _renamed(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy
