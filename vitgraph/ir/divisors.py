"""Divisors of whole numbers: the least one divided by -1 has no place in its type, and the processor ends the process.

Rounded towards zero, that is; torch takes care of the quotient rounded down, and of remainders.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_schema import opname
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType

_TRAPPED = (torch.int32, torch.int64)
"""Narrower types are divided as these, where the quotient has its place."""


def check_divisor(program: Program, node: fx.Node) -> None:
    """`ValueError` for a quotient, in a graph from a file, that could end the process."""
    kind = node.meta["type"]
    if not isinstance(kind, TensorType) or opname(node.target) not in ("div", "divide"):
        return
    values = arguments(node)
    if values.get("rounding_mode") == "trunc" and not is_safe(program, values["other"], kind.dtype):
        raise ValueError(
            "whole numbers are divided by numbers that may be -1, of which the processor makes a fault; "
            "canonicalize the model ahead of saving it, or divide by a constant"
        )


def is_safe(program: Program, divisor: Any, dtype: torch.dtype) -> bool:
    """Whether a quotient in this type, rounded towards zero, can't trap: the divisor is known not to be -1."""
    if dtype not in _TRAPPED:
        return True
    if not isinstance(divisor, fx.Node):
        return bool(divisor != -1)
    constant = program.constant(divisor)
    if constant is not None:
        return not bool((constant.to(dtype) == -1).any())
    return _is_replaced(program, divisor, dtype)


def _is_replaced(program: Program, divisor: fx.Node, dtype: torch.dtype) -> bool:
    """`where(divisor == -1, another, divisor)`, as `canonicalize` writes it."""
    if divisor.target is not aten.where.self:
        return False
    condition, other, rest = arguments(divisor).values()
    if not isinstance(condition, fx.Node) or condition.target is not aten.eq.Scalar:
        return False
    same = condition.args == (rest, -1) and not condition.kwargs and rest.meta["type"].dtype == dtype
    return same and program.constant(other) is not None and is_safe(program, other, dtype)
