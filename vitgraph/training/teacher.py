"""What a student learns from: a program that answers, and tells what its blocks output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from vitgraph.ir.program import Program


class Teacher(nn.Module):
    """A program with taps: `[B, C, H, W]` to its output and the values of some of its nodes. It is not trained."""

    def __init__(self, program: Program, taps: Sequence[fx.Node] = ()) -> None:
        super().__init__()
        work = program.copy()
        work.own_tensors()
        twins = dict(zip(program.graph.nodes, work.graph.nodes, strict=True))
        work.output.args = ((work.output.args[0], [twins[each] for each in taps]),)
        work.module.recompile()
        self.graph_module = work.module.requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Any, list[Tensor]]:
        """The output, and the taps' values in their order."""
        found: tuple[Any, list[Tensor]] = self.graph_module(images)
        return found
