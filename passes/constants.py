"""What depends on weights and literals only, and its value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir.calls import SdpaCall
from vitgraph.ir.dialect import OWN, aten
from vitgraph.ir.program import Program


class Constants:
    """Knows which nodes are constant and computes them; each answer is kept."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._known = dict[fx.Node, bool]()
        self._values = dict[fx.Node, Any]()

    def holds(self, node: Any) -> bool:
        """Is this a weight, or an operator on weights and literals alone? vitgraph's own operators never are."""
        if not isinstance(node, fx.Node):
            return False
        if node not in self._known:
            self._known[node] = self._decide(node)
        return self._known[node]

    def _decide(self, node: fx.Node) -> bool:
        if node.op == "get_attr":
            return True
        if node.op != "call_function" or node.target in OWN or _random(node):
            return False
        return all(self.holds(other) for other in node.all_input_nodes)

    def value(self, node: fx.Node) -> Any:
        """The value of a constant node, computed in eager torch without gradients."""
        if node.op == "get_attr":
            return self.program.tensor(str(node.target)).detach()
        if node not in self._values:
            args, kwargs = fx.map_arg((node.args, node.kwargs), self.value)
            with torch.no_grad():
                self._values[node] = _call(node.target, args, kwargs)
        return self._values[node]


def _random(node: fx.Node) -> bool:
    """Does a call draw numbers? An attention does with dropout alone."""
    call = SdpaCall.of(node)
    if call is not None:
        return call.dropout != 0.0
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _call(target: Any, args: Any, kwargs: Any) -> Any:
    function: Callable[..., Any] = target
    return function(*args, **kwargs)


def holds_nan(value: Tensor) -> bool:
    """Whether a value can't become a constant: these hold no NaN, and what computes it says where it comes from."""
    return not value.is_meta and bool(value.isnan().any())


def replace_by_constant(program: Program, node: fx.Node, value: Tensor, stem: str) -> fx.Node:
    """A `get_attr` node ahead of `node` that reads `value`, named `stem` under the node's module path."""
    path = str(node.meta.get("path", ""))
    name = f"{path}.{stem}" if path else stem
    # a value that is a view must not keep, or alias, the tensor it looks into
    return program.constant_node(node, name, value.detach().clone(memory_format=torch.contiguous_format))


def number(program: Program, node: Any) -> bool | int | float | None:
    """The Python number that a constant of rank 0 holds that is not trained; None for anything else."""
    tensor = program.constant(node)
    if tensor is None or tensor.dim() or isinstance(tensor, torch.nn.Parameter):
        return None
    if tensor.dtype not in (torch.float32, torch.float64, torch.int64, torch.int32, torch.bool):
        return None
    found: bool | int | float = tensor.item()
    return found


__all__ = ["Constants", "aten", "number", "replace_by_constant"]
