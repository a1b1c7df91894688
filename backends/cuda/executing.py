"""A plan that runs: on the CPU by the references (`twin`), or on a GPU by the kernels (`device`).

Both go through the same steps: what differs is the table of kernels, where tensors lie, and how a sparse weight is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vitgraph.backends.cuda.plan import Argument, Plan, Step, Value, Weight
from vitgraph.backends.cuda.plan_memory import Memory
from vitgraph.backends.cuda.planned_execution import planned_execution
from vitgraph.backends.cuda.weights_check import check_tensors, sparse_weights
from vitgraph.errors import InputError
from vitgraph.ir.file_operators import find_operator
from vitgraph.ir.tensor_type import Dim
from vitgraph.runtime.backend import Execution, Runner

KernelFunction = Callable[..., Any]
"""Takes the arguments of a step by name, matrices `[M, N]` (attention: `[B, T, H, D]`); gives its results."""


class Executor(Runner):
    """Runs the steps of a plan, one after the other."""

    kernels: Mapping[str, KernelFunction]
    writes_out = False
    """Whether kernels write to the memory they are given, as `out` and `total` (the sparse product to memory of its own); else
    what they give is copied there."""
    poisoned = False
    """Whether memory is full of what no result is, so that who reads padded rows is found out."""

    def __init__(self, plan: Plan, tensors: Mapping[str, Tensor], device: str = "cpu") -> None:
        """`InputError` where tensors are not those of the plan, a sparse product's weight is not 2:4, or there are several inputs."""
        check_tensors(plan, tensors)
        if len(plan.inputs) != 1:
            raise InputError(f"{plan.name}: has {len(plan.inputs)} inputs; a runner takes models of one")
        kind = plan.buffers[plan.inputs[0]].type
        super().__init__(plan.name, tuple(size if isinstance(size, int) else None for size in kind.shape), kind.dtype)
        self.plan, self.device = plan, device
        sparse = sparse_weights(plan)
        self.weights = {
            name: self.packed(tensor) if name in sparse else tensor.to(device) for name, tensor in tensors.items()
        }
        own = ("sparse linear",) if self.writes_out else ()
        self.memory = Memory(plan, device, own, poisoned=self.poisoned)

    def packed(self, weight: Tensor) -> Tensor:
        """A 2:4 weight as the sparse product takes it."""
        return weight.to(self.device)

    def compute(self, batch: Tensor) -> Tensor:
        """The first output, on the CPU."""
        with torch.no_grad():
            return self.run_steps(batch.to(self.device))[self.plan.outputs[0]].cpu()

    def execution(self, batch: int) -> Execution:
        """The formats that the plan has, for it leaves no choice to what runs it."""
        return planned_execution(self.plan)

    def run_steps(self, batch: Tensor) -> dict[str, Tensor]:
        """Every buffer by name, for one batch; those of kernels are written over by the next."""
        return self.steps_from({self.plan.inputs[0]: batch}, len(batch))

    def steps_from(self, values: dict[str, Tensor], size: int) -> dict[str, Tensor]:
        """Run all steps on these inputs, for a batch of `size`."""
        for step in self.plan.steps:
            self.run_step(step, values, size)
        return values

    def run_step(self, step: Step, values: dict[str, Tensor], size: int) -> None:
        """Run one step: its outputs are added to `values`."""
        if step.kernel == "torch":
            self._call_torch(step, values, size)
        else:
            self._call_kernel(step, values, size)

    def _call_torch(self, step: Step, values: dict[str, Tensor], size: int) -> None:
        given = {name: self._value(each, values, size) for name, each in step.arguments.items()}
        for name, result in zip(step.outputs, _results(find_operator(step.operator)(**given)), strict=True):
            values[name] = self.memory.keep(name, result, size) if self.plan.buffers[name].padded else result

    def _call_kernel(self, step: Step, values: dict[str, Tensor], size: int) -> None:
        given = {name: self._operand(step, each, values, size) for name, each in step.arguments.items()}
        if self.writes_out and step.kernel != "sparse linear":
            given |= dict(zip(("out", "total"), (self.memory.of(size)[name] for name in step.outputs), strict=False))
        for name, result in zip(step.outputs, _results(self.kernels[step.kernel](**given)), strict=False):
            values[name] = (
                self.memory.viewed(name, result, size) if self.writes_out else self.memory.keep(name, result, size)
            )

    def _operand(self, step: Step, argument: Argument, values: dict[str, Tensor], size: int) -> Any:
        """An argument of a kernel: buffers as matrices, with their padding for the sparse product."""
        if not isinstance(argument, Value):
            return self._value(argument, values, size)
        value = values[argument.name]
        if step.kernel == "attention":
            heads_inside = value.transpose(1, 2)
            return heads_inside if heads_inside.stride(-1) == 1 else heads_inside.contiguous()
        if step.kernel == "sparse linear":
            return self.memory.of(size)[argument.name]
        return value.reshape(-1, value.shape[-1]).contiguous()

    def _value(self, argument: Argument, values: dict[str, Tensor], size: int) -> Any:
        """An argument of an operator of torch."""
        if isinstance(argument, Value):
            return values[argument.name]
        if isinstance(argument, Weight):
            return self.weights[argument.name]
        if isinstance(argument, tuple):
            return [self._value(each, values, size) for each in argument]
        return argument.at(size) if isinstance(argument, Dim) else argument


def _results(found: Any) -> tuple[Tensor, ...]:
    """One result or several, as several."""
    return (found,) if isinstance(found, Tensor) else tuple(found)
