"""Whether a plan from a file can run: every step has the arguments, types and sizes that its kernel or operator takes.

Steps of torch are put into a program, in which the results of kernels stand as inputs, and held to what programs from files are
held to (`vitgraph.ir.verify.check_read`): operators of the list, types that follow from their arguments, no argument that torch
would take on trust. Steps of kernels are held to what these take (`kernel_check`).
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from vitgraph.backends.cuda.kernel_check import check_kernel
from vitgraph.backends.cuda.lowered import Lowered
from vitgraph.backends.cuda.plan import Argument, Step, Value, Weight
from vitgraph.backends.cuda.weights_check import check_tensors
from vitgraph.errors import InputError
from vitgraph.ir.dialect import aten
from vitgraph.ir.file_bounds import MAX_LINES, check_call, check_memory, check_type
from vitgraph.ir.file_operators import find_operator
from vitgraph.ir.operator_schema import schema_of
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, IntType, TensorType, TupleType
from vitgraph.ir.verify import check_read

REMEDY = "compile the model again"


def check_plan(lowered: Lowered, origin: str) -> None:
    """`InputError` names the step that can't run, or the weight that is not the plan's."""
    plan = lowered.plan
    check_tensors(plan, lowered.tensors)
    if len(plan.steps) > MAX_LINES:
        raise InputError(f"{origin}: {len(plan.steps):,} steps are over the {MAX_LINES:,} that are read; {REMEDY}")
    graph = _Graph(lowered)
    for number, step in enumerate(plan.steps):
        try:
            graph.add(step)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            where = f"step {number} ({step.operator or step.kernel})"
            raise InputError(f"{origin}: {where} can't run: {error}; {REMEDY}") from error
    check_read(graph.finished(origin), origin)


class _Graph:
    """The steps of torch as a program."""

    def __init__(self, lowered: Lowered) -> None:
        self.plan, self.tensors = lowered.plan, lowered.tensors
        self.program = Program(fx.GraphModule(torch.nn.Module(), fx.Graph()), lowered.plan.name)
        self.nodes = dict[str, fx.Node]()
        self.weights = dict[str, fx.Node]()
        for name in self.plan.inputs:
            self._given(name)
        self.batch = self._batch()

    def add(self, step: Step) -> None:
        """Add a step; `ValueError` and its like say what is wrong with it."""
        if step.kernel != "torch":
            check_kernel(self.plan, step)
            for name in step.outputs:
                self._given(name)
            return
        target = find_operator(step.operator)
        if schema_of(target) is None:
            raise ValueError("it is no operator on tensors")
        kinds = [self._type(name) for name in step.outputs]
        kwargs = {name: self._argument(each) for name, each in step.arguments.items()}
        check_call(target, (), kwargs)
        node = self.program.graph.call_function(target, (), kwargs)
        single = (
            len(kinds) == 1
            and len(schema_of(target).returns) == 1
            and "[]" not in str(schema_of(target).returns[0].type)
        )
        node.meta["type"] = kinds[0] if single else TupleType(tuple(kinds))
        for at, name in enumerate(step.outputs):
            self.nodes[name] = node if single else self._call(operator.getitem, (node, at), kinds[at])

    def finished(self, origin: str) -> Program:
        """The program; `InputError` where its values take too much memory."""
        self.program.graph.output(tuple(self.nodes[name] for name in self.plan.outputs))
        try:
            check_memory(self.program)
        except ValueError as error:
            raise InputError(f"{origin}: {error}; {REMEDY}") from error
        return self.program

    def _given(self, name: str) -> None:
        self.nodes[name] = self.program.graph.placeholder(f"v{len(self.nodes)}")
        self.nodes[name].meta["type"] = self._type(name)

    def _type(self, name: str) -> TensorType:
        kind = self.plan.buffers[name].type
        check_type(kind)
        return kind

    def _batch(self) -> fx.Node | None:
        """The batch size, where it is not fixed."""
        kind = self.plan.buffers[self.plan.inputs[0]].type if self.plan.inputs else None
        size = kind.shape[0] if kind and kind.shape else None
        source = self.nodes[self.plan.inputs[0]] if self.plan.inputs else None
        return self._call(aten.sym_size.int, (source, 0), IntType(size)) if isinstance(size, Dim) else None

    def _argument(self, given: Argument) -> Any:
        if isinstance(given, Value):
            return self.nodes[given.name]
        if isinstance(given, Weight):
            return self._weight(given.name)
        if isinstance(given, tuple):
            return [self._argument(each) for each in given]
        return self._size(given) if isinstance(given, Dim) else given

    def _size(self, size: Dim) -> fx.Node:
        """A size, computed of the batch."""
        if self.batch is None or self.batch.meta["type"].value != Dim(1, 0):
            raise ValueError(f"the size {size} depends on a batch that the input does not have")
        check_type(IntType(size))
        times = self._call(operator.mul, (self.batch, size.times), IntType(Dim(size.times, 0)))
        return self._call(operator.add, (times, size.plus), IntType(size))

    def _weight(self, name: str) -> fx.Node:
        if name not in self.weights:
            node = self.program.graph.get_attr(self.program.add_tensor(f"w{len(self.weights)}", self.tensors[name]))
            node.meta["type"] = self.plan.weights[name]
            self.weights[name] = node
        return self.weights[name]

    def _call(self, target: Any, args: tuple[Any, ...], kind: Any) -> fx.Node:
        node = self.program.graph.call_function(target, args)
        node.meta["type"] = kind
        return node
