"""A graph's text, as `vitgraph.ir.printer` writes it, read back to a Program.

Texts come from files, so nothing in one is trusted: lines are taken apart by a grammar of our own, names and operators
are held to lists, and sizes to bounds, before a node is made of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.errors import InputError
from vitgraph.ir.file_bounds import MAX_BYTES, MAX_LINES, bytes_of, check_call, check_memory, check_type
from vitgraph.ir.file_operators import find_operator
from vitgraph.ir.mask_patterns import thin
from vitgraph.ir.names import check_tensor_name, check_value_name
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import DTYPES, TensorType, Type, parse_type
from vitgraph.ir.text_header import read_header
from vitgraph.ir.text_line import Call, Line, Name, read_line


class TextError(InputError):
    """A text that is not a graph; the message names the line."""


def parse(text: str, tensors: Mapping[str, Tensor] | None = None, seed: int = 0) -> Program:
    """Read a text; weights come from `tensors`, or are drawn at random (seeded) where none are given.

    Raises `TextError` naming the line that can't be read. Whether the graph is valid is `vitgraph.ir.verify`'s to say.
    """
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise TextError(f"the text has {len(lines):,} lines, over the {MAX_LINES:,} that are read")
    weights = _Drawn(torch.Generator().manual_seed(seed)) if tensors is None else _Given(tensors)
    reading = _Reading(Program(fx.GraphModule(torch.nn.Module(), fx.Graph()), "unnamed", "canonical"), weights)
    for number, line in enumerate(lines, start=1):
        _at_line(number, line, reading.read)
    if not reading.ended:
        raise TextError("the text has no return_(…) line")
    _at_line(len(lines), "", lambda _: _finish(reading.program, drawn=tensors is None))
    return reading.program


def _at_line(number: int, line: str, work: Callable[[str], None]) -> None:
    """Do work on a line; what it objects to is told with the line."""
    try:
        work(line)
    except (SyntaxError, ValueError, KeyError, AttributeError, TypeError, IndexError, RuntimeError) as error:
        shown = line.strip() if len(line) < 200 else f"{line.strip()[:200]} …"
        raise TextError(f"line {number}: {shown}\n  {error}") from error


def _finish(program: Program, drawn: bool) -> None:
    check_memory(program)
    if drawn:
        thin(program)
    program.module.recompile()


@dataclass
class _Given:
    """Weights by name."""

    tensors: Mapping[str, Tensor]

    def tensor(self, name: str, declared: TensorType) -> Tensor:
        if name not in self.tensors:
            raise ValueError(f"there is no tensor {name!r}")
        return self.tensors[name]


@dataclass
class _Drawn:
    """Random weights: small for floats, so that deep graphs stay finite; zeros for whole numbers."""

    generator: torch.Generator
    bytes: int = 0

    def tensor(self, name: str, declared: TensorType) -> Tensor:
        shape = declared.static
        self.bytes += bytes_of(declared)
        if self.bytes > MAX_BYTES:
            raise ValueError(f"the text's weights take more than {MAX_BYTES >> 30} GiB")
        if declared.dtype == torch.bool:
            return torch.rand(shape, generator=self.generator) > 0.5
        if not declared.dtype.is_floating_point:
            return torch.zeros(shape, dtype=declared.dtype)
        return (torch.randn(shape, generator=self.generator) * 0.2).to(declared.dtype)


@dataclass
class _Reading:
    """A program as far as its text has been read."""

    program: Program
    weights: _Given | _Drawn
    known: dict[str, fx.Node] = field(default_factory=dict[str, fx.Node])
    ended: bool = False

    def read(self, text: str) -> None:
        """Add what a line says."""
        if text.startswith("#"):
            return read_header(self.program, text)
        line = read_line(text)
        if line is None:
            return None
        if self.ended:
            raise ValueError("it stands after return_(…), which is the last line")
        self.ended = not line.name
        return self._end(line.call) if self.ended else self._define(line)

    def _end(self, call: Call) -> None:
        if len(call.values) != 1 or call.named:
            raise ValueError("return_ takes one value: a name, or names in a list or tuple")
        value = self._value(call.values[0])
        if not _holds_nodes(value):
            raise ValueError("return_ takes names of values, alone or in lists and tuples, and at least one")
        self.program.graph.output(value)

    def _define(self, line: Line) -> None:
        name = check_value_name(line.name)
        if name in self.known:
            raise ValueError(f"the name {name!r} is given twice")
        declared = parse_type(line.type)
        check_type(declared)
        node = self._node(name, declared, line.call)
        node.meta["type"], node.meta["path"] = declared, line.path
        self.known[name] = node

    def _node(self, name: str, declared: Type, call: Call) -> fx.Node:
        if call.function == "input":
            if call.values or call.named:
                raise ValueError("input() takes nothing")
            return self.program.graph.placeholder(name)
        if call.function in ("weight", "constant"):
            return self._tensor(declared, call)
        target = find_operator(call.function)
        args = tuple(map(self._value, call.values))
        kwargs = {key: self._value(value) for key, value in call.named.items()}
        check_call(target, args, kwargs)
        return self.program.graph.call_function(target, args, kwargs)

    def _tensor(self, declared: Type, call: Call) -> fx.Node:
        trainable = call.function == "weight"
        if len(call.values) != 1 or call.named or not isinstance(declared, TensorType):
            raise ValueError(f"{call.function} takes the name of a tensor, and is of a tensor's type")
        target = check_tensor_name(call.values[0])
        tensor = self.weights.tensor(target, declared)
        if trainable and not tensor.is_floating_point():
            raise ValueError("weight() is trained, so it holds floating-point numbers; write constant()")
        if self.program.add_tensor(target, tensor, trainable) != target:
            raise ValueError(f"the tensor {target!r} is given twice, or modules have something else of this name")
        return self.program.graph.get_attr(target)

    def _value(self, value: Any) -> Any:
        if isinstance(value, Name):
            return self._named(value.text)
        if isinstance(value, Call):
            return _object(value)
        if isinstance(value, list | tuple):
            return type(value)(self._value(item) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return value

    def _named(self, name: str) -> Any:
        if name in self.known:
            return self.known[name]
        if name in DTYPES:
            return DTYPES[name]
        raise ValueError(f"the name {name[:60]!r} is not known yet; a value stands above its first use")


def _holds_nodes(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_holds_nodes, value))  # pyright: ignore[reportUnknownArgumentType]
    return isinstance(value, fx.Node)


_DEVICES = re.compile(r"(cpu|meta|cuda)(:\d{1,2})?")
_OBJECTS: dict[str, dict[str, Any]] = {
    "memory_format": {
        f"torch.{name}": getattr(torch, name)
        for name in ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")
    },
    "layout": {"torch.strided": torch.strided},
}


def _object(call: Call) -> Any:
    """`device("cpu")`, `memory_format("torch.channels_last")` or `layout("torch.strided")`."""
    text = call.values[0] if len(call.values) == 1 and not call.named else None
    if call.function == "device" and isinstance(text, str) and _DEVICES.fullmatch(text):
        return torch.device(text)
    known = _OBJECTS.get(call.function, {})
    if text in known:
        return known[text]
    raise ValueError(
        f"{call.function}({text!r}) is no value; write device('cpu'), layout('torch.strided') or one of "
        + ", ".join(f"memory_format({name!r})" for name in _OBJECTS["memory_format"])
    )
