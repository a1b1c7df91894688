"""What a plan is put together in: which buffer holds the value of which node, and the steps so far.

A value is held as the program types it, or in another form that says the same: in FP16 where the program has FP32 around its
quantizers, or as INT8 codes and their scale in place of a Q/DQ pair's floating point. Who needs the program's own type asks for
it (`typed`), and then a cast or a dequantization is put in, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.backends.cuda.plan import Argument, Buffer, Kernel, Plan, SiteChoice, Step, Value, Weight
from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.calls import ItemCall
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_schema import opname, overload_name, schema_of
from vitgraph.ir.printer import node_lines
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import IntType, TensorType, TupleType, type_of

FP32, FP16, INT8 = torch.float32, torch.float16, torch.int8


@dataclass(frozen=True)
class Held:
    """A buffer, and the scale of its codes; None for a buffer of values."""

    name: str
    type: TensorType
    scale: float | None = None


class Building:
    """A plan on the way."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.names = {node: line.partition(":")[0] for node, line in node_lines(program)}
        """Of every node but the output, as the program's text has them."""
        self.held = dict[fx.Node, Held]()
        self.absorbed = set[fx.Node]()
        """Nodes whose values exist nowhere: a kernel goes from what comes before to what comes after."""
        self.steps = list[Step]()
        self.buffers = dict[str, Buffer]()
        self.weights = dict[str, Tensor]()
        self.sites = list[SiteChoice]()
        self.why = dict[fx.Node, str]()
        """Why a node has no kernel of its own."""
        self._results = dict[fx.Node, list[str]]()
        self._forms = dict[tuple[str, torch.dtype], str]()

    def buffer(self, name: str, kind: TensorType) -> str:
        """A new buffer; its name, made unique."""
        unique, count = name, 1
        while unique in self.buffers:
            unique, count = f"{name}_{count}", count + 1
        self.buffers[unique] = Buffer(unique, kind)
        return unique

    def pad(self, name: str) -> None:
        """Let a buffer have memory for whole multiples of 32 rows."""
        self.buffers[name] = replace(self.buffers[name], padded=True)

    def weight(self, name: str, tensor: Tensor) -> Weight:
        """A constant under this name; `ValueError` where another tensor has it."""
        kept = self.weights.setdefault(name, tensor.detach().contiguous())
        if kept.dtype != tensor.dtype or kept.shape != tensor.shape or not torch.equal(_bytes(kept), _bytes(tensor)):
            raise ValueError(f"{name}: names two constants")
        return Weight(name)

    def step(
        self, kernel: Kernel, node: fx.Node, given: Mapping[str, Argument], *outputs: str, operator: str = ""
    ) -> None:
        """Add a step that belongs to the module of `node`."""
        self.steps.append(Step(kernel, outputs, given, str(node.meta.get("path") or ""), operator))

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
        self.sites.append(SiteChoice(path_of(node), format, kernel, tuple(epilogue), why))

    def plan(self, outputs: Sequence[str]) -> Plan:
        """What was built, without steps and weights that nothing needs."""
        needed, kept = set(outputs), list[Step]()
        for step in reversed(self.steps):
            if needed & set(step.outputs):
                kept.append(step)
                needed |= {each.name for each in step.reads}
        inputs = tuple(self.held[node].name for node in self.program.inputs)
        written = {*inputs, *(name for step in kept for name in step.outputs)}
        buffers = {name: each for name, each in self.buffers.items() if name in written}
        read = {each.name for step in kept for each in step.reads if isinstance(each, Weight)}
        self.weights = {name: tensor for name, tensor in self.weights.items() if name in read}
        weights = {name: type_of(tensor) for name, tensor in self.weights.items()}
        return Plan(
            self.program.name, inputs, tuple(outputs), buffers, weights, tuple(reversed(kept)), tuple(self.sites)
        )


def _bytes(tensor: Tensor) -> Tensor:
    """A tensor's memory: not every type can be compared."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def tensors_in(kind: Any) -> list[TensorType]:
    """The tensors among an operator's results."""
    items = kind.items if isinstance(kind, TupleType) else (kind,)
    return [each for each in items if isinstance(each, TensorType)]


def spell(target: Any) -> str:
    """`aten.linear.default`, `operator.getitem`."""
    if schema_of(target) is None:
        return f"operator.{opname(target)}"
    return f"{target.namespace}.{opname(target)}.{overload_name(target)}"
