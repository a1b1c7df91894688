"""Where a program's values stop being finite: the operator to blame, which is seldom the one where it is noticed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree

from vitgraph.ir.navigate import path_of
from vitgraph.ir.program import Program


def end_of_finite(program: Program, inputs: Sequence[Tensor]) -> str:
    """A clause that names the operator, its module and its type; empty where all values are finite.

    It is the first operator that makes infinities or NaN of finite operands, or else the first that gives NaN: a mask may
    put infinities in place itself.
    """
    watch = _Watch(program)
    with torch.no_grad():
        watch.run(*inputs)
    node = watch.cause or watch.first_nan
    if node is None:
        return ""
    return f"; values are finite no more from {node.target} in {path_of(node)!r} on ({node.meta['type']})"


class _Watch(fx.Interpreter):
    """Runs a graph and notes where values stop being finite."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.module)
        self.cause: fx.Node | None = None
        self.first_nan: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op != "call_function" or not isinstance(value, Tensor) or _is_finite(value):
            return value
        if self.first_nan is None and bool(value.isnan().any()):
            self.first_nan = n
        operands = self.fetch_args_kwargs_from_env(n)
        if self.cause is None and all(_is_finite(each) for each in _pytree.tree_leaves(operands)):
            self.cause = n
        return value


def _is_finite(value: Any) -> bool:
    """Whether a tensor holds no infinity and no NaN, or a number is none; anything else is finite."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    return not isinstance(value, float) or math.isfinite(value)
