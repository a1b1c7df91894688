"""What a plan is put together in: which buffer holds the value of which node, and the steps so far.

A value is held as the program types it, or in another form that says the same: in FP16 where the program has FP32 around its
quantizers, or as INT8 codes and their scale in place of a Q/DQ pair's floating point. Who needs the program's own type asks for
it (`typed`), and then a cast or a dequantization is put in, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from vitgraph.backends.cuda.operands import FP16, FP32
from vitgraph.backends.cuda.plan import Argument, Kernel, Kind, Plan, SiteChoice, Value, Weight
from vitgraph.backends.cuda.plan_writer import PlanWriter
from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.calls import ItemCall, WeightedCall
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_schema import opname, overload_name, schema_of
from vitgraph.ir.printer import node_lines
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import IntType, TensorType, TupleType


@dataclass(frozen=True)
class Held:
    """A buffer, and the scale of its codes; None for a buffer of values."""

    name: str
    type: TensorType
    scale: float | None = None


class Building(PlanWriter):
    """A plan on the way."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.names = {node: line.partition(":")[0] for node, line in node_lines(program)}
        """Of every node but the output, as the program's text has them."""
        self.held = dict[fx.Node, Held]()
        self.absorbed = set[fx.Node]()
        """Nodes whose values exist nowhere: a kernel goes from what comes before to what comes after."""
        self._results = dict[fx.Node, list[str]]()
        self._forms = dict[tuple[str, torch.dtype], str]()

    def step(
        self, kernel: Kernel, node: fx.Node, given: Mapping[str, Argument], *outputs: str, operator: str = ""
    ) -> None:
        """Add a step that belongs to the module of `node`."""
        self.add_step(kernel, str(node.meta.get("path") or ""), given, *outputs, operator=operator)

    def torch_step(self, node: fx.Node) -> None:
        """A call as it is, in torch, on values of the program's own types."""
        kind, item = node.meta["type"], ItemCall.of(node)
        if item is not None:
            self.held[node] = Held(self._results[item.results][item.index], kind)
            return
        given = {name: self.argument(each) for name, each in arguments(node).items()}
        names = [self.buffer(self.names[node], each) for each in tensors_in(kind)]
        self.step("torch", node, given, *names, operator=spell(node.target))
        self._results[node] = names
        if isinstance(kind, TensorType):
            self.held[node] = Held(names[0], kind)

    def called(
        self,
        node: fx.Node,
        name: str,
        operator: str,
        given: Mapping[str, Argument],
        kind: TensorType,
        scale: float | None = None,
    ) -> Held:
        """One operator of torch on what is given, with one result."""
        made = self.buffer(name, kind)
        self.step("torch", node, given, made, operator=operator)
        return Held(made, kind, scale)

    def argument(self, value: Any) -> Argument:
        """An argument of a call, as a step is given it."""
        if isinstance(value, list | tuple):
            return tuple(self.argument(each) for each in value)  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(value, fx.Node):
            found: Argument = value
            return found
        kind = value.meta["type"]
        return kind.value if isinstance(kind, IntType) else self.typed(value)

    def typed(self, node: fx.Node) -> Value | Weight:
        """A node's value in the program's own type."""
        if node.op == "get_attr":
            return self.weight(str(node.target), self.program.tensor(str(node.target)))
        if node not in self.held:
            self.torch_step(node)  # a constant that only now is needed, or one of several results
        held, wanted = self.held[node], node.meta["type"].dtype
        return Value(held.name) if held.scale is None and held.type.dtype == wanted else self._form(node, wanted)

    def half(self, node: fx.Node) -> Value | Weight:
        """A node's value in FP16."""
        held = self.held.get(node)
        if held is not None and (held.scale is not None or held.type.dtype != FP16):
            return self._form(node, FP16)
        return self.typed(node) if held is None else Value(held.name)

    def _form(self, node: fx.Node, dtype: torch.dtype) -> Value:
        """Another form of what is held."""
        held = self.held[node]
        if (held.name, dtype) not in self._forms:
            name, shape = f"{held.name}_{str(dtype).removeprefix('torch.')}", held.type.shape
            given: dict[str, Argument] = {"self": Value(held.name), "dtype": dtype}
            if held.scale is not None:
                scale = self.weight(f"{held.name}.scale", torch.tensor(held.scale))
                codes: dict[str, Argument] = {"q": Value(held.name), "scale": scale}
                middle = self.called(
                    node, f"{held.name}_values", "vitgraph.dequantize.default", codes, TensorType(FP32, shape)
                )
                given["self"] = Value(middle.name)
            made = self.called(node, name, "aten.to.dtype", given, TensorType(dtype, shape))
            self._forms[held.name, dtype] = made.name
        return Value(self._forms[held.name, dtype])

    def choose(self, node: fx.Node, format: str, kernel: str, epilogue: Sequence[str] = (), why: str = "") -> None:
        """Record what became of a site."""
        kind: Kind = "linear" if WeightedCall.views(node) else "attention"
        self.sites.append(SiteChoice(path_of(node), kind, format, kernel, tuple(epilogue), why))

    def plan(self, outputs: Sequence[str]) -> Plan:
        """What was built, for the results in these buffers."""
        inputs = [self.held[node].name for node in self.program.inputs]
        return self.finished(self.program.name, inputs, outputs)


def tensors_in(kind: Any) -> list[TensorType]:
    """The tensors among an operator's results."""
    items = kind.items if isinstance(kind, TupleType) else (kind,)
    return [each for each in items if isinstance(each, TensorType)]


def spell(target: Any) -> str:
    """`aten.linear.default`, `operator.getitem`."""
    if schema_of(target) is None:
        return f"operator.{opname(target)}"
    return f"{target.namespace}.{opname(target)}.{overload_name(target)}"
