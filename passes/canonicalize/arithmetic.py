"""Rules of `canonicalize` for sums, products, quotients and powers, and for changes of type."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from vitgraph.ir.call_arguments import argument, arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_schema import opname
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.passes.canonicalize.rule import Rule, as_tensor, cast, cast_source, inner_type, source
from vitgraph.passes.constants import number


def to_dtype(program: Program, node: fx.Node) -> fx.Node | None:
    """A change of type, and of nothing else."""
    first = source(node)
    wanted: TensorType = node.meta["type"]
    if first.meta["type"] == wanted:
        return first
    if node.args == (first, wanted.dtype) and node.target is aten.to.dtype:
        return None
    return program.insert(node, aten.to.dtype, first, wanted.dtype)


def arithmetic(program: Program, node: fx.Node) -> fx.Node | None:
    """Numbers as numbers, on the right; steps that do nothing are dropped."""
    if node.meta["type"].dtype == torch.bool:
        return _of_truth_values(program, node)
    name, left, right = _operands(program, node)
    if _does_nothing(name, right, node.meta["type"].dtype) and left.meta["type"] == node.meta["type"]:
        return left
    if name == "sub" and isinstance(right, int | float):
        name, right = "add", -right
    target: Any = {"add": aten.add.Tensor, "sub": aten.sub.Tensor, "mul": aten.mul.Tensor, "div": aten.div.Tensor}[name]
    if node.target is target and node.args == (left, right) and not node.kwargs:
        return None
    return program.insert(node, target, left, right)


def _operands(program: Program, node: fx.Node) -> tuple[str, fx.Node, Any]:
    """The operator's name and its two operands: `alpha` in the right one, a number where a constant says one."""
    values, name = arguments(node), opname(node.target)
    left, right, alpha = values["self"], values["other"], values.get("alpha", 1)
    if number(program, right) is not None:
        right = _if_same_type(program, node, right)
    elif name in ("add", "mul") and alpha == 1 and _is_constant(left) and _is_computed(right):
        left, right = right, left  # weights on the right
        if number(program, right) is not None:
            right = _if_same_type(program, node, right, left)
    if alpha != 1 and isinstance(right, fx.Node):
        right = program.insert(node, aten.mul.Tensor, cast(program, node, right, node.meta["type"].dtype), alpha)
    elif alpha != 1:
        right = right * alpha
    return name, left, right


def _does_nothing(name: str, right: Any, dtype: torch.dtype) -> bool:
    """Is this the neutral element? For a sum in floating point that is -0.0: adding 0.0 makes a zero of -0.0."""
    if not isinstance(right, int | float):
        return False
    if name == "add" and right == 0 and dtype.is_floating_point:
        return math.copysign(1.0, right) < 0
    return right == {"add": 0, "sub": 0, "mul": 1, "div": 1}[name]


def _of_truth_values(program: Program, node: fx.Node) -> fx.Node:
    """A product of truth values is their `and`, a sum their `or`."""
    values = arguments(node)
    target = aten.logical_and.default if opname(node.target) == "mul" else aten.logical_or.default
    return program.insert(
        node, target, *(as_tensor(program, node, values[name], torch.bool) for name in ("self", "other"))
    )


def _is_constant(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"


def _is_computed(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op != "get_attr" and isinstance(node.meta["type"], TensorType)


def _if_same_type(program: Program, node: fx.Node, scalar: Any, other: Any = None) -> Any:
    """The number of a constant, unless shape or type of the result hang on its being a tensor."""
    left: TensorType = (other or source(node)).meta["type"]
    return number(program, scalar) if left == node.meta["type"] else scalar


def add_product(program: Program, node: fx.Node) -> fx.Node | None:
    """`addcmul` and `addcdiv`: `self + value * a * b` or `a / b`; the factor is the product's, not the sum's. Half types in FP32, as torch."""
    values, dtype = arguments(node), node.meta["type"].dtype
    wide = inner_type(dtype)
    left, right, addend = (cast(program, node, values[name], wide) for name in ("tensor1", "tensor2", "self"))
    if values["value"] != 1:
        left = program.insert(node, aten.mul.Tensor, left, values["value"])
    target = aten.mul.Tensor if opname(node.target) == "addcmul" else aten.div.Tensor
    total = program.insert(node, aten.add.Tensor, program.insert(node, target, left, right), addend)
    return cast(program, node, total, dtype)


def reverse_subtract(program: Program, node: fx.Node) -> fx.Node | None:
    """`other - alpha * self`."""
    values = arguments(node)
    other = values["other"]
    if isinstance(other, fx.Node):
        return program.insert(node, aten.sub.Tensor, other, values["self"], alpha=values["alpha"])
    negative = program.insert(node, aten.neg.default, cast_source(program, node))
    scaled = program.insert(node, aten.mul.Tensor, negative, values["alpha"])
    return program.insert(node, aten.add.Tensor, scaled, other)


def power(program: Program, node: fx.Node) -> fx.Node | None:
    """Roots by their own names."""
    exponent = argument(node, "exponent")
    named = {0.5: aten.sqrt.default, -0.5: aten.rsqrt.default, -1: aten.reciprocal.default}
    if exponent == 1:
        return source(node) if source(node).meta["type"] == node.meta["type"] else None
    if not isinstance(exponent, int | float) or exponent not in named:
        return None
    return program.insert(node, named[exponent], source(node))


def power_of_tensors(program: Program, node: fx.Node) -> fx.Node | None:
    """Numbers where constants say them in the exponent; a number as a base is a constant."""
    values, dtype = arguments(node), node.meta["type"].dtype
    base, exponent = values["self"], values["exponent"]
    known = number(program, exponent)
    if known is not None and base.meta["type"] == node.meta["type"]:
        return program.insert(node, aten.pow.Tensor_Scalar, base, known)
    if node.target is aten.pow.Tensor_Tensor:
        return None
    return program.insert(node, aten.pow.Tensor_Tensor, as_tensor(program, node, base, dtype, "base"), exponent)


def power_of_two(program: Program, node: fx.Node) -> fx.Node | None:
    """`exp2`."""
    first = cast_source(program, node)
    return program.insert(node, aten.pow.Scalar, 2, first)


def square(program: Program, node: fx.Node) -> fx.Node | None:
    """A power of two."""
    return program.insert(node, aten.pow.Tensor_Scalar, source(node), 2)


def interpolate(program: Program, node: fx.Node) -> fx.Node | None:
    """`lerp(a, b, weight)`, from the nearer end as torch does: `a + w (b - a)`, or `b - (1 - w)(b - a)`."""
    values = arguments(node)
    start, end, weight = values["self"], values["end"], values["weight"]
    if isinstance(weight, fx.Node):
        return None
    way = program.insert(node, aten.sub.Tensor, end, start)
    if abs(weight) < 0.5:
        return program.insert(node, aten.add.Tensor, program.insert(node, aten.mul.Tensor, way, weight), start)
    rest = program.insert(node, aten.mul.Tensor, way, 1 - weight)
    return program.insert(node, aten.sub.Tensor, end, rest)


ARITHMETIC: dict[Any, Rule] = {
    **dict.fromkeys(
        (
            aten.to.dtype,
            aten.to.dtype_layout,
            aten.to.device,
            aten.to.other,
            aten._to_copy.default,
            aten.type_as.default,
        ),
        to_dtype,
    ),
    **dict.fromkeys(
        (
            aten.add.Tensor,
            aten.add.Scalar,
            aten.sub.Tensor,
            aten.sub.Scalar,
            aten.mul.Tensor,
            aten.mul.Scalar,
            aten.div.Tensor,
            aten.div.Scalar,
        ),
        arithmetic,
    ),
    **dict.fromkeys((aten.addcmul.default, aten.addcdiv.default), add_product),
    **dict.fromkeys((aten.rsub.Scalar, aten.rsub.Tensor), reverse_subtract),
    aten.pow.Tensor_Scalar: power,
    **dict.fromkeys((aten.pow.Tensor_Tensor, aten.pow.Scalar), power_of_tensors),
    aten.exp2.default: power_of_two,
    aten.square.default: square,
    aten.lerp.Scalar: interpolate,
}
"""Rule by operator."""
