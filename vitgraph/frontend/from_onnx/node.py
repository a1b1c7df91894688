"""One node of an ONNX graph, read by name: inputs, attributes, and the operator set it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx

from vitgraph.frontend.from_onnx.values import Codes, Known, Refusal, Tensorial, Value, whole_numbers


class OnnxNode:
    """A node with the values of its inputs."""

    def __init__(self, node: Any, inputs: Sequence[Value | None], opset: int) -> None:
        self.raw = node
        self.opset = opset
        self.outputs = len(node.outputs)
        self._inputs = inputs
        self._attributes: Mapping[str, Any] = node.attributes

    def value(self, position: int) -> Value:
        """An input of any kind, which must be there."""
        found = self._inputs[position] if position < len(self._inputs) else None
        if found is None:
            raise Refusal(f"input {position} is missing")
        return found

    def __getitem__(self, position: int) -> Tensorial:
        """An input that is a tensor, which must be there."""
        found = self.value(position)
        if isinstance(found, Codes):
            raise Refusal("it computes with quantized codes; only DequantizeLinear may read those of QuantizeLinear")
        return found

    def get(self, position: int) -> Tensorial | None:
        """An input that may be left out."""
        there = position < len(self._inputs) and self._inputs[position] is not None
        return self[position] if there else None

    def all(self) -> list[Tensorial]:
        """All inputs."""
        return [self[position] for position in range(len(self._inputs))]

    def known(self, position: int, what: str) -> Known:
        """An input that has to follow from constants and sizes; `what` is what messages call it."""
        found = self[position]
        if isinstance(found, fx.Node):
            raise Refusal(f"its {what} is computed from the image; a constant is wanted")
        return found

    def numbers(self, position: int, name: str) -> list[int] | None:
        """Whole numbers that are an attribute in older operator sets and an input in newer ones; None where neither is given."""
        if name in self._attributes:
            return [int(each) for each in self._attributes[name].value]
        if self.get(position) is None:
            return None
        return constants(self.known(position, name), name)

    def whole(self, name: str, default: int = 0) -> int:
        """An attribute that is a whole number."""
        return int(self._attribute(name, default))

    def number(self, name: str, default: float) -> float:
        """An attribute that is a number."""
        return float(self._attribute(name, default))

    def text(self, name: str, default: str = "") -> str:
        """An attribute that is a word."""
        return str(self._attribute(name, default))

    def ints(self, name: str, default: Sequence[int] | None = None) -> list[int] | None:
        """An attribute that is a list of whole numbers."""
        found = self._attribute(name, default)
        return None if found is None else [int(each) for each in found]

    def given(self, name: str) -> Any:
        """An attribute as it stands; None where it is left out."""
        return self._attribute(name, None)

    def _attribute(self, name: str, default: Any) -> Any:
        return self._attributes[name].value if name in self._attributes else default


def constants(value: Known, what: str) -> list[int]:
    """Whole numbers that do not hang on the batch."""
    if value.constant is None:
        raise Refusal(f"its {what} depends on the batch size; it has to be a constant")
    return whole_numbers(value.constant)
