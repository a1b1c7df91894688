"""Rules of `canonicalize` for arithmetic, comparisons and casts."""

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
from vitgraph.passes.canonicalize.rule import Rule, shape, source
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
    values = arguments(node)
    left, right = values["self"], values["other"]
    alpha = values.get("alpha", 1)
    name = opname(node.target)
    if number(program, right) is not None:
        right = _if_same_type(program, node, right)
    elif name in ("add", "mul") and alpha == 1 and _is_constant(left) and not _is_constant(right):
        left, right = right, left  # weights on the right
        if number(program, right) is not None:
            right = _if_same_type(program, node, right, left)
    if alpha != 1:
        right = right * alpha if isinstance(right, int | float) else program.insert(node, aten.mul.Tensor, right, alpha)
    if name == "sub" and isinstance(right, int | float):
        name, right = "add", -right
    neutral = {"add": 0, "sub": 0, "mul": 1, "div": 1}[name]
    if isinstance(right, int | float) and right == neutral and left.meta["type"] == node.meta["type"]:
        return left  # type: ignore[no-any-return]
    target: Any = {"add": aten.add.Tensor, "sub": aten.sub.Tensor, "mul": aten.mul.Tensor, "div": aten.div.Tensor}[name]
    if node.target is target and node.args == (left, right) and not node.kwargs:
        return None
    return program.insert(node, target, left, right)


def _is_constant(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"


def _if_same_type(program: Program, node: fx.Node, scalar: Any, other: Any = None) -> Any:
    """The number of a constant, unless shape or type of the result hang on its being a tensor."""
    left: TensorType = (other or source(node)).meta["type"]
    return number(program, scalar) if left == node.meta["type"] else scalar


def add_product(program: Program, node: fx.Node) -> fx.Node | None:
    """`addcmul`: `self + value * a * b`; the factor is the product's, not the sum's."""
    values = arguments(node)
    left = values["tensor1"]
    if values["value"] != 1:
        left = program.insert(node, aten.mul.Tensor, left, values["value"])
    product = program.insert(node, aten.mul.Tensor, left, values["tensor2"])
    return program.insert(node, aten.add.Tensor, product, values["self"])


def reverse_subtract(program: Program, node: fx.Node) -> fx.Node | None:
    """`other - alpha * self`."""
    values = arguments(node)
    other = values["other"]
    if isinstance(other, fx.Node):
        return program.insert(node, aten.sub.Tensor, other, values["self"], alpha=values["alpha"])
    negative = program.insert(node, aten.neg.default, values["self"])
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


def square(program: Program, node: fx.Node) -> fx.Node | None:
    """A power of two."""
    return program.insert(node, aten.pow.Tensor_Scalar, source(node), 2)


def clamp(program: Program, node: fx.Node) -> fx.Node | None:
    """Every clamp by number in one spelling; from zero upwards it is a relu."""
    values = arguments(node)
    low, high = values.get("min", values.get("min_val")), values.get("max", values.get("max_val"))
    if node.target is aten.relu6.default:
        low, high = 0, 6
    if low == 0 and high is None:
        return program.insert(node, aten.relu.default, source(node))
    wanted = (source(node), low) if high is None else (source(node), low, high)
    if node.target is aten.clamp.default and node.args == wanted:
        return None
    return program.insert(node, aten.clamp.default, *wanted)


def clamp_by_tensors(program: Program, node: fx.Node) -> fx.Node | None:
    """A clamp between constants is one between numbers; between other tensors, a maximum and a minimum."""
    values, new = arguments(node), source(node)
    low, high = values.get("min"), values.get("max")
    numbers = [None if each is None else number(program, each) for each in (low, high)]
    if all(each is None or known is not None for each, known in zip((low, high), numbers, strict=True)):
        bounds = [None if each is None or math.isinf(each) else each for each in numbers]
        return new if bounds == [None, None] else program.insert(node, aten.clamp.default, new, *bounds)
    new = new if low is None else program.insert(node, aten.maximum.default, new, low)
    return new if high is None else program.insert(node, aten.minimum.default, new, high)


def compare(program: Program, node: fx.Node) -> fx.Node | None:
    """A comparison with a number by its own overload."""
    found = number(program, argument(node, "other"))
    if found is None or shape(source(node)) != shape(node):
        return None
    packet = getattr(aten, opname(node.target))
    return program.insert(node, packet.Scalar, source(node), found)


def compare_with_constant(program: Program, node: fx.Node) -> fx.Node | None:
    """`<` and the like take tensors: a number becomes a constant."""
    values, first = arguments(node), source(node)
    name = f"{node.meta['path']}.limit" if node.meta.get("path") else "limit"
    limit = program.constant_node(node, name, torch.tensor(values["other"], dtype=first.meta["type"].dtype))
    packet = getattr(aten, opname(node.target))
    return program.insert(node, packet.Tensor, first, limit)


def where(program: Program, node: fx.Node) -> fx.Node | None:
    """Numbers in a choice become constants: `where.self` takes tensors."""
    values = arguments(node)
    dtype = node.meta["type"].dtype
    arms = [values["self"], values["other"]]
    for side, arm in enumerate(arms):
        if not isinstance(arm, fx.Node):
            name = f"{node.meta['path']}.choice" if node.meta.get("path") else "choice"
            arms[side] = program.constant_node(node, name, torch.tensor(arm, dtype=dtype))
    return program.insert(node, aten.where.self, values["condition"], *arms)


def masked_fill(program: Program, node: fx.Node) -> fx.Node | None:
    """The filling as a number."""
    value = number(program, argument(node, "value"))
    if value is None:
        return None
    return program.insert(node, aten.masked_fill.Scalar, source(node), argument(node, "mask"), value)


def logical(target: Any) -> Rule:
    """A bitwise operator on truth values is the logical one."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        if node.meta["type"].dtype != torch.bool:
            return None
        return program.insert(node, target, *node.args)

    return rule


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
    aten.addcmul.default: add_product,
    aten.rsub.Scalar: reverse_subtract,
    aten.rsub.Tensor: reverse_subtract,
    aten.pow.Tensor_Scalar: power,
    aten.square.default: square,
    **dict.fromkeys(
        (
            aten.clamp.default,
            aten.clamp_min.default,
            aten.clamp_max.default,
            aten.hardtanh.default,
            aten.relu6.default,
        ),
        clamp,
    ),
    **dict.fromkeys((aten.clamp.Tensor, aten.clamp_min.Tensor, aten.clamp_max.Tensor), clamp_by_tensors),
    **dict.fromkeys((aten.eq.Tensor, aten.ne.Tensor), compare),
    **dict.fromkeys((aten.lt.Scalar, aten.le.Scalar, aten.gt.Scalar, aten.ge.Scalar), compare_with_constant),
    **dict.fromkeys((aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar), where),
    aten.masked_fill.Tensor: masked_fill,
    aten.bitwise_not.default: logical(aten.logical_not.default),
    aten.bitwise_and.Tensor: logical(aten.logical_and.default),
    aten.bitwise_or.Tensor: logical(aten.logical_or.default),
}
"""Rule by operator."""
