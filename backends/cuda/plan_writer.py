"""A plan as it is written: buffers, weights, steps and sites so far, and the plan that they make in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vitgraph.backends.cuda.plan import Argument, Buffer, Kernel, Plan, SiteChoice, Step, Weight
from vitgraph.ir.tensor_type import TensorType, type_of


class PlanWriter:
    """Takes in one part after the other."""

    def __init__(self) -> None:
        self.steps = list[Step]()
        self.buffers = dict[str, Buffer]()
        self.weights = dict[str, Tensor]()
        self.sites = list[SiteChoice]()

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

    def add_step(
        self, kernel: Kernel, path: str, given: Mapping[str, Argument], *outputs: str, operator: str = ""
    ) -> None:
        """Add a step that belongs to the module at `path`."""
        self.steps.append(Step(kernel, outputs, given, path, operator))

    def finished(self, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> Plan:
        """What was written, without steps and weights that nothing needs."""
        needed, kept = set(outputs), list[Step]()
        for step in reversed(self.steps):
            if needed & set(step.outputs):
                kept.append(step)
                needed |= {each.name for each in step.reads}
        written = {*inputs, *(name for step in kept for name in step.outputs)}
        buffers = {name: each for name, each in self.buffers.items() if name in written}
        read = {each.name for step in kept for each in step.reads if isinstance(each, Weight)}
        self.weights = {name: tensor for name, tensor in self.weights.items() if name in read}
        weights = {name: type_of(tensor) for name, tensor in self.weights.items()}
        return Plan(name, tuple(inputs), tuple(outputs), buffers, weights, tuple(reversed(kept)), tuple(self.sites))


def _bytes(tensor: Tensor) -> Tensor:
    """A tensor's memory: not every type can be compared."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
