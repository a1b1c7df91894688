"""The ONNX graph under construction: nodes named after modules, constants under their dotted names.

An operator's lowering sees a `Call` (its arguments by name) and a `Lowering` (emit a node, get a value). Constants stay
torch tensors until the file is written, so that a large model is not held twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten, mask
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import DTYPE_NAMES, Dim, IntType, Size, TensorType, TupleType

INT4: torch.dtype = torch.int4  # type: ignore[attr-defined]  # torch declares it, its stubs do not
"""How a constant of INT4 codes is marked, which torch holds as int8: the file stores two to a byte."""

ONNX_TYPES: dict[torch.dtype, ir.DataType] = {
    torch.float32: ir.DataType.FLOAT,
    torch.float16: ir.DataType.FLOAT16,
    torch.bfloat16: ir.DataType.BFLOAT16,
    torch.float64: ir.DataType.DOUBLE,
    torch.float8_e4m3fn: ir.DataType.FLOAT8E4M3FN,
    INT4: ir.DataType.INT4,
    torch.int8: ir.DataType.INT8,
    torch.uint8: ir.DataType.UINT8,
    torch.int16: ir.DataType.INT16,
    torch.int32: ir.DataType.INT32,
    torch.int64: ir.DataType.INT64,
    torch.bool: ir.DataType.BOOL,
}

Result = ir.Value | tuple[ir.Value, ...]
Rule = Callable[["Lowering", "Call"], Result]
Table = dict[Any, Rule]


class NoLowering(Exception):
    """An operator, or this use of it, has no ONNX form here; the message is the reason, and where it can be, the remedy."""


@dataclass(frozen=True)
class Initializer:
    """A constant of the file; `read` gives its tensor when its bytes are wanted.

    The tensor of one whose `dtype` is `INT4` holds its codes as int8.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        count = math.prod(self.shape)
        return -(-count // 2) if self.dtype is INT4 else count * self.dtype.itemsize


class Call:
    """One call of an operator: arguments by the names of its schema, with the schema's defaults."""

    def __init__(self, node: fx.Node) -> None:
        self.node = node
        self.path = str(node.meta.get("path") or "")
        self._arguments = arguments(node)

    def __getitem__(self, name: str) -> Any:
        return self._arguments[name]

    @property
    def type(self) -> TensorType:
        """The type of its result, for an operator that gives one tensor."""
        return tensor_type(self.node)


def tensor_type(node: Any) -> TensorType:
    """The type of a node that is a tensor."""
    found = node.meta["type"]
    if not isinstance(found, TensorType):
        raise NoLowering(f"a tensor is wanted where {node.name} gives {found}")
    return found


@dataclass
class Lowering:
    """The nodes and constants so far, and the ONNX value of each node of the program."""

    program: Program
    nodes: list[ir.Node] = field(default_factory=list[ir.Node])
    initializers: dict[str, Initializer] = field(default_factory=dict[str, Initializer])
    values: dict[fx.Node, Result] = field(default_factory=dict[fx.Node, Result])
    made: dict[fx.Node, list[ir.Node]] = field(default_factory=dict[fx.Node, list[ir.Node]])
    """The ONNX nodes that each call became."""
    path: str = ""
    """Module path of the call being lowered: the first half of its nodes' names."""
    taken: set[str] = field(default_factory=set[str])
    """Names of graph inputs, which no constant may have."""
    _named: dict[str, int] = field(default_factory=dict[str, int])
    _constants: dict[Any, ir.Value] = field(default_factory=dict[Any, ir.Value])

    def emit(self, op: str, *inputs: ir.Value | None, path: str | None = None, **attributes: Any) -> ir.Value:
        """Append a node of one output, named `<module path>/<op>`."""
        return self.emit_many(op, 1, *inputs, path=path, **attributes)[0]

    def emit_many(
        self, op: str, outputs: int, *inputs: ir.Value | None, path: str | None = None, **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """Append a node of several outputs; an attribute that is None is left out."""
        name = self._unique(f"{(self.path if path is None else path) or 'model'}/{op}")
        given = {key: value for key, value in attributes.items() if value is not None}
        made = [ir.Value(name=name if number == 0 else f"{name}:{number}") for number in range(outputs)]
        operands = list(inputs)
        while operands and operands[-1] is None:  # ONNX Runtime crashes on some operators whose last input is named ""
            operands.pop()
        self.nodes.append(ir.node(op, operands, given, outputs=made, name=name))
        return tuple(made)

    def _unique(self, name: str) -> str:
        count = self._named[name] = self._named.get(name, 0) + 1
        return name if count == 1 else self._unique(f"{name}_{count}")

    def initializer(
        self, key: Any, name: str, shape: Sequence[int], dtype: torch.dtype, read: Callable[[], Tensor]
    ) -> ir.Value:
        """A constant, made once for each `key`; its values are read when the file is written."""
        if key not in self._constants:
            unique, count = name, 1
            while unique in self.initializers or unique in self.taken:
                unique, count = f"{name}_{count + 1}", count + 1
            self.initializers[unique] = Initializer(unique, dtype, tuple(shape), read)
            self._constants[key] = ir.Value(name=unique, type=onnx_type(dtype), shape=ir.Shape(tuple(shape)))
        return self._constants[key]

    def small(self, name: str, tensor: Tensor, dtype: torch.dtype | None = None) -> ir.Value:
        """A small constant that is not of the program, stored as `dtype`; equal names mean equal values."""
        return self.initializer(("small", name), name, tensor.shape, dtype or tensor.dtype, lambda: tensor)

    def number(self, value: float, dtype: torch.dtype) -> ir.Value:
        """A single number of a type; of whole numbers it wraps around, as torch's arithmetic does."""
        return self.small(f"{DTYPE_NAMES[dtype]}/{value!r}", torch.tensor(value, dtype=dtype))

    def ints(self, values: Sequence[int]) -> ir.Value:
        """A vector of whole numbers, such as axes or a shape."""
        return self.small(f"i64/[{','.join(map(str, values))}]", torch.tensor(list(values), dtype=torch.int64))

    def filled(self, value: float, size: int, dtype: torch.dtype) -> ir.Value:
        """A vector of one number repeated."""
        return self.small(f"{DTYPE_NAMES[dtype]}/{value!r}x{size}", torch.full((size,), value, dtype=dtype))

    def is_constant(self, node: Any) -> bool:
        """Whether a node is a stored tensor, or a mask or cast of one, which the file holds folded."""
        if not isinstance(node, fx.Node) or node.op == "get_attr":
            return isinstance(node, fx.Node)
        return node.target in (mask, aten.to.dtype) and all(self.is_constant(part) for part in node.all_input_nodes)

    def constant(self, node: fx.Node) -> Tensor:
        """The tensor of a node that `is_constant`."""
        if node.op == "get_attr":
            return self.program.tensor(str(node.target)).detach()
        known = {part: self.constant(part) for part in node.all_input_nodes}
        arguments: Any = fx.map_arg((node.args, node.kwargs), lambda other: known[other])
        compute: Any = node.target
        result: Tensor = compute(*arguments[0], **arguments[1])
        return result

    def weight_name(self, node: fx.Node) -> str:
        """The dotted name of the stored tensor that a constant reads."""
        while node.op != "get_attr":
            node = node.all_input_nodes[0]
        return str(node.target)

    def value(self, node: Any) -> ir.Value:
        """The ONNX value of a node that gives one tensor or one whole number (a vector of one)."""
        found = self.values.get(node)
        if isinstance(found, ir.Value):
            return found
        if isinstance(node, int):
            return self.ints([node])
        if not isinstance(node, fx.Node) or found is not None:
            raise NoLowering(f"a tensor is wanted where {node!r} stands")
        if not self.is_constant(node):
            raise NoLowering(f"{node.name} has no value")
        key = node.target if node.op == "get_attr" else node
        kind = tensor_type(node)
        value = self.values[node] = self.initializer(
            key, self.weight_name(node), kind.static, kind.dtype, lambda: self.constant(node)
        )
        return value

    def cast(self, value: ir.Value, have: torch.dtype, want: torch.dtype) -> ir.Value:
        """The value in another type; itself where it has that type already."""
        return value if have == want else self.emit("Cast", value, to=int(onnx_code(want)))

    def operand(self, argument: Any, dtype: torch.dtype) -> ir.Value:
        """An argument of arithmetic, tensor or number, in the type the arithmetic is done in."""
        if not isinstance(argument, fx.Node):
            return self.number(argument, dtype)
        kind = argument.meta["type"]
        if isinstance(kind, IntType):
            return self.cast(self.emit("Squeeze", self.value(argument), self.ints([0])), torch.int64, dtype)
        return self.cast(self.value(argument), tensor_type(argument).dtype, dtype)

    def transpose(self, value: ir.Value, order: Sequence[int]) -> ir.Value:
        """The axes in another order; the value itself where the order is the same."""
        if list(order) == list(range(len(order))):
            return value
        return self.emit("Transpose", value, perm=list(order))

    def reshape(self, value: ir.Value, have: Sequence[Size], want: Sequence[Size]) -> ir.Value:
        """Another shape. At most one size is left to the batch; a second must stand where it stood before (ONNX's 0)."""
        if list(have) == list(want):
            return value
        unknown = [axis for axis, size in enumerate(want) if isinstance(size, Dim)]
        kept = [axis for axis in unknown if axis < len(have) and have[axis] == want[axis]]
        free = [axis for axis in unknown if axis not in kept]
        if len(free) > 1:
            raise NoLowering(
                f"a reshape from {list(map(str, have))} to {list(map(str, want))} leaves two sizes unknown"
            )
        sizes = [0 if axis in kept else -1 if axis in free else int(size) for axis, size in enumerate(want)]  # type: ignore[arg-type]
        return self.emit("Reshape", value, self.ints(sizes))

    def sizes(self, values: Sequence[Any]) -> ir.Value:
        """A vector of sizes, of which some may be computed in the graph."""
        if all(isinstance(value, int) for value in values):
            return self.ints(list(values))
        return self.emit("Concat", *(self.value(value) for value in values), axis=0)


def onnx_code(dtype: torch.dtype) -> ir.DataType:
    """ONNX's code for an element type; `NoLowering` where it has none that engines take."""
    if dtype not in ONNX_TYPES:
        raise NoLowering(f"{DTYPE_NAMES.get(dtype, dtype)} has no place in the ONNX file")
    return ONNX_TYPES[dtype]


def onnx_type(dtype: torch.dtype) -> ir.TensorType:
    """ONNX's type of a tensor of this element type."""
    return ir.TensorType(onnx_code(dtype))


def onnx_shape(shape: Sequence[Size]) -> ir.Shape:
    """The shape with the batch as the symbol `batch`; another size that depends on it is a symbol of its own."""
    return ir.Shape(
        [
            ("batch" if str(size) == "N" else str(size).replace("N", "batch")) if isinstance(size, Dim) else size
            for size in shape
        ]
    )


def types_of_results(node: fx.Node) -> list[TensorType | None]:
    """The types of a node's values, in order; None for one that is not a tensor."""
    kind = node.meta.get("type")
    items = kind.items if isinstance(kind, TupleType) else (kind,)
    return [item if isinstance(item, TensorType) else None for item in items]
