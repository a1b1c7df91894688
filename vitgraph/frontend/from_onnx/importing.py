"""The program that a file becomes, as far as it is read: calls of ATen's operators, written one after another."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.errors import InputError
from vitgraph.frontend.from_onnx.names import TensorNames
from vitgraph.frontend.from_onnx.node import OnnxNode
from vitgraph.frontend.from_onnx.values import Known, Refusal, Tensorial, Value, any_of, at_sample, joined, type_of
from vitgraph.ir.dialect import aten
from vitgraph.ir.file_bounds import check_type
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import SAMPLES, Dim, Size, TensorType, infer

Rule = Callable[["Importer", OnnxNode], Value | tuple[Value, ...]]
"""Writes one ONNX operator into the program; `Refusal` says why it can't."""

COMPUTED = frozenset(
    {
        aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.div.Tensor_mode, aten.neg.default,
        aten.abs.default, aten.sqrt.default, aten.pow.Tensor_Scalar, aten.reciprocal.default, aten.floor.default,
        aten.ceil.default, aten.exp.default, aten.log.default, aten.maximum.default, aten.minimum.default,
        aten.fmod.Tensor, aten.remainder.Tensor,
        aten.eq.Tensor, aten.lt.Tensor, aten.le.Tensor, aten.gt.Tensor, aten.ge.Tensor, aten.logical_not.default,
        aten.logical_and.default, aten.logical_or.default, aten.where.self, aten.to.dtype, aten.reshape.default,
        aten.permute.default, aten.expand.default, aten.slice.Tensor, aten.select.int, aten.index_select.default,
        aten.cat.default, aten.unsqueeze.default, aten.flip.default, aten.repeat.default, aten.full.default,
        aten.arange.start_step, aten.prod.dim_int, aten.tril.default, aten.triu.default, aten.sin.default,
        aten.cos.default, aten.index.Tensor,
    }
)  # fmt: skip
"""Operators that are computed at once where all they read is known: what exporters write of shapes, masks and positions."""
_OF_LAYERS = ("weight", "bias", "running_mean", "running_var")
"""Vectors that a layer has for itself: exporters store equal ones once, which ties what is not tied."""
_ROOM = 1 << 24
"""Elements that may be computed from constants, besides four times as many as the file holds."""


class Importer:
    """The program so far, the values of the ONNX graph, and the module path of the node at hand."""

    def __init__(self, program: Program, elements: int) -> None:
        self.program = program
        self.path = ""
        self.names = TensorNames(program)
        self.weights = dict[fx.Node, tuple[Any, Known, Known, int | None, str]]()
        """Quantized constants by the call that gives them: operator, constant, scale, axis, format."""
        self.unbiased = dict[fx.Node, Callable[[Known], fx.Node]]()
        """Linear layers without a bias, and what writes each again with one."""
        self._room = 4 * elements + _ROOM
        self._read = dict[tuple[Known, str], fx.Node]()
        self._turned = dict[tuple[Known, tuple[int, ...]], Known]()

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Tensorial:
        """A call of an operator with values, sizes and plain arguments: computed where it can be, else written."""
        given = [*args, *kwargs.values()]
        if target in COMPUTED and not any_of(given, fx.Node):
            return self._compute(target, args, kwargs)
        return self.emit(target, *args, **kwargs)

    def emit(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """The call in the program."""
        written = [self._argument(each) for each in args]
        named = {name: self._argument(each) for name, each in kwargs.items()}
        return self._insert(target, written, named)

    def _insert(self, target: Any, args: list[Any], kwargs: dict[str, Any]) -> fx.Node:
        try:
            node = self.program.insert(self.program.output, target, *args, path=self.path, **kwargs)
            check_type(node.meta["type"])
        except InputError:
            raise
        except Exception as error:  # an operator may object to its arguments in its own way
            raise Refusal(_first_line(error)) from error
        return node

    def node(self, value: Tensorial, stem: str = "constant") -> fx.Node:
        """The node of a value; of a constant the one that reads it, named `stem` where the file has no name for it."""
        if isinstance(value, fx.Node):
            return value
        own = stem in _OF_LAYERS and value.type.rank == 1 and self.path != ""
        key = value, f"{self.path}.{stem}" if own else ""
        if key not in self._read:
            self._read[key] = self._write(value, stem, own)
        return self._read[key]

    def _write(self, value: Known, stem: str, own: bool) -> fx.Node:
        """The `get_attr` of a constant, which is the layer's own where `own` says so; else the call that gave the value."""
        if value.constant is not None:
            name, trained = self.names.of("" if own else value.name, self.path, stem), stem in ("weight", "bias")
            return self.program.constant_node(
                self.program.output,
                name,
                value.constant.contiguous(),
                trainable=value.constant.is_floating_point() and trained and bool(value.constant.isfinite().all()),
            )
        if value.made is None:
            raise Refusal("it computes with the size of the batch as a number")
        return value.made()

    def turned(self, value: Known, order: tuple[int, ...]) -> Known:
        """A constant with its axes in another order, made once."""
        if (value, order) not in self._turned:
            assert value.constant is not None
            self._turned[value, order] = Known((value.constant.permute(order).contiguous(),), value.name)
        return self._turned[value, order]

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, Known):
            return self.node(argument)
        if isinstance(argument, Dim):
            return self._size(argument)
        if isinstance(argument, list | tuple):
            return [self._argument(each) for each in argument]  # pyright: ignore[reportUnknownVariableType]
        return argument

    def _size(self, size: Dim) -> fx.Node:
        """The call that computes a size from the batch."""
        found = self._insert(aten.sym_size.int, [self.program.inputs[0], 0], {})
        if size.times != 1:
            found = self._insert(operator.mul, [found, size.times], {})
        return found if size.plus == 0 else self._insert(operator.add, [found, size.plus], {})

    def _compute(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Known:
        """The result at each batch size, within what may be computed here."""
        given = [*args, *kwargs.values()]
        known = [each for each in _flat(given) if isinstance(each, Known)]
        varies = any_of(given, Dim) or any(each.constant is None for each in known)
        samples = list[Tensor]()
        for position in range(len(SAMPLES) if varies else 1):
            at = [at_sample(each, position) for each in args]
            named = {name: at_sample(each, position) for name, each in kwargs.items()}
            samples.append(self._computed(target, at, named))
        name = known[0].name if len(known) == 1 and target in (aten.permute.default, aten.reshape.default) else ""
        path = self.path

        def made() -> fx.Node:
            self.path, before = path, self.path
            written = self.emit(target, *args, **kwargs)
            self.path = before
            return written

        return joined(samples, name, made)

    def _computed(self, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Tensor:
        try:
            kind = infer(target, _types(args), {name: _types(each) for name, each in kwargs.items()})
            check_type(kind)
            if not isinstance(kind, TensorType):
                raise Refusal(f"a tensor is wanted where a value is {kind}")
            self._room -= torch.Size(kind.static).numel()
            if self._room < 0:
                raise Refusal("what follows from the file's constants is far larger than they are")
            with torch.no_grad():
                result: Tensor = target(*args, **kwargs)
        except Refusal:
            raise
        except Exception as error:
            raise Refusal(_first_line(error)) from error
        return result

    def sizes(self, value: Tensorial, what: str) -> list[Size]:
        """The elements of a value as sizes."""
        if isinstance(value, fx.Node):
            raise Refusal(f"its {what} is computed from the image; it has to follow from constants and sizes")
        return value.sizes()

    def reshape(self, value: Tensorial, sizes: list[Size]) -> Tensorial:
        """A value in another shape, whose one unknown size is left to the operator."""
        if list(type_of(value).shape) == sizes:
            return value
        unknown = [size for size in sizes if isinstance(size, Dim)]
        if len(unknown) == 1 and isinstance(value, fx.Node) and -1 not in sizes:
            return self.call(aten.reshape.default, value, [-1 if isinstance(size, Dim) else size for size in sizes])
        return self.call(aten.reshape.default, value, sizes)


def _types(argument: Any) -> Any:
    """Types in place of tensors."""
    if isinstance(argument, Tensor):
        return TensorType(argument.dtype, tuple(argument.shape))
    if isinstance(argument, list | tuple):
        return [_types(each) for each in argument]  # pyright: ignore[reportUnknownVariableType]
    return argument


def _flat(arguments: Any) -> list[Any]:
    if isinstance(arguments, list | tuple):
        return [inner for each in arguments for inner in _flat(each)]  # pyright: ignore[reportUnknownVariableType]
    return [arguments]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def number_of(value: Tensorial | None) -> float | int | bool | None:
    """The number that a constant of one element is; None for anything else."""
    constant = value.constant if isinstance(value, Known) else None
    return constant.reshape(()).item() if constant is not None and constant.numel() == 1 else None
