"""What an operator says of itself: torch keeps it under private names, which are spelled here and nowhere else."""

from __future__ import annotations

from typing import Any

import torch

HIGHER_ORDER: Any = getattr(torch, "_ops").HigherOrderOperator  # noqa: B009
"""Operators that call a graph of their own, such as the one that stands for an autocast region."""

_OVERLOAD: Any = getattr(torch, "_ops").OpOverload  # noqa: B009


def schema_of(target: Any) -> Any:
    """The schema of an ATEN or vitgraph operator: arguments, returns, is_mutable; None for anything else."""
    return target._schema if isinstance(target, _OVERLOAD) else None


def opname(target: Any) -> str:
    """`linear` of `aten.linear.default`; a Python function's own name."""
    return str(target._opname) if isinstance(target, _OVERLOAD) else str(target.__name__)


def overload_name(target: Any) -> str:
    """`default` of `aten.linear.default`."""
    return str(target._overloadname)


def writes(target: Any) -> bool:
    """Does it write into one of its arguments?"""
    schema = schema_of(target)
    return schema is not None and bool(schema.is_mutable)
