"""ONNX arithmetic, comparisons and functions of one value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from vitgraph.frontend.from_onnx.element_types import torch_type
from vitgraph.frontend.from_onnx.importing import Importer, Rule, number_of
from vitgraph.frontend.from_onnx.node import OnnxNode
from vitgraph.frontend.from_onnx.values import Known, Refusal, Tensorial, Value, type_of
from vitgraph.ir.dialect import aten


def unary(target: Any) -> Rule:
    """An operator of one value."""
    return lambda im, n: im.call(target, n[0])


def _binary(target: Any, commutes: bool = False) -> Rule:
    """An operator of two values that are brought to one shape."""
    return lambda im, n: _combined(im, target, n[0], n[1], commutes)


def _combined(im: Importer, target: Any, left: Tensorial, right: Tensorial, commutes: bool = False) -> Tensorial:
    """The call; a constant of one element is a number, and stands on the right where it may."""
    if commutes and isinstance(left, Known) and isinstance(right, fx.Node):
        left, right = right, left
    return im.call(target, left, _plain(left, right))


def _plain(left: Tensorial, right: Tensorial) -> Any:
    """The right operand, as a number where that gives the same type and shape."""
    number = number_of(right)
    fits = isinstance(left, fx.Node) and type_of(right).rank <= type_of(left).rank
    return number if fits and number is not None else right


def _add(im: Importer, n: OnnxNode) -> Value:
    """A constant added to a linear layer that nothing else reads is its bias."""
    for one, other in ((0, 1), (1, 0)):
        linear, bias = n[one], n[other]
        written = im.unbiased.get(linear) if isinstance(linear, fx.Node) else None
        alone = len(n.raw.inputs[one].uses()) == 1 and not n.raw.inputs[one].is_graph_output()
        if written is not None and alone and isinstance(bias, Known) and bias.constant is not None:
            width = type_of(linear).shape[-1]
            if bias.constant.numel() == width == bias.constant.shape[-1] and bias.type.rank <= type_of(linear).rank:
                return written(bias if bias.type.rank == 1 else Known((bias.constant.reshape(-1),), bias.name))
    return _combined(im, aten.add.Tensor, n[0], n[1], commutes=True)


def _divide(im: Importer, n: OnnxNode) -> Value:
    """ONNX divides whole numbers towards zero."""
    if type_of(n[0]).dtype.is_floating_point:
        return _combined(im, aten.div.Tensor, n[0], n[1])
    divisor = n[1]
    if isinstance(divisor, Known) and any(bool(((each == 0) | (each == -1)).any()) for each in divisor.samples):
        raise Refusal("whole numbers are divided by 0 or by -1")
    return im.call(aten.div.Tensor_mode, n[0], divisor, rounding_mode="trunc")


def _modulo(im: Importer, n: OnnxNode) -> Value:
    divisor = n[1]
    if isinstance(divisor, Known) and any(bool((each == 0).any()) for each in divisor.samples):
        raise Refusal("a remainder of a division by 0")
    return im.call(aten.fmod.Tensor if n.whole("fmod") else aten.remainder.Tensor, n[0], divisor)


def _power(im: Importer, n: OnnxNode) -> Value:
    exponent = number_of(n[1])
    if exponent is not None:
        exponent = int(exponent) if exponent == int(exponent) else exponent
        return im.call(aten.pow.Tensor_Scalar, n[0], exponent)
    return im.emit(aten.pow.Tensor_Tensor, n[0], n[1])


def _several(target: Any) -> Rule:
    """An operator of any number of values, taken two by two."""

    def rule(im: Importer, n: OnnxNode) -> Value:
        first, *others = n.all()
        for each in others:
            first = im.call(target, first, each)
        return first

    return rule


def _clip(im: Importer, n: OnnxNode) -> Value:
    low, high = _bound(n, 1), _bound(n, 2)
    return n[0] if low is None and high is None else im.emit(aten.clamp.default, n[0], low, high)


def _bound(n: OnnxNode, position: int) -> float | None:
    given = n.get(position)
    number = number_of(given)
    if given is not None and number is None:
        raise Refusal("a bound of it is computed; a constant is wanted")
    return number


def _cast(im: Importer, n: OnnxNode) -> Value:
    value, wanted = n[0], torch_type(n.whole("to"))
    return value if type_of(value).dtype == wanted else im.call(aten.to.dtype, value, wanted)


def _cast_like(im: Importer, n: OnnxNode) -> Value:
    return im.call(aten.to.dtype, n[0], type_of(n[1]).dtype)


def _logical(target: Any) -> Rule:
    return lambda im, n: im.call(target, n[0], n[1])


def _gelu(im: Importer, n: OnnxNode) -> Value:
    return im.emit(aten.gelu.default, n[0], approximate=n.text("approximate", "none"))


def _hard_sigmoid(im: Importer, n: OnnxNode) -> Value:
    alpha, beta = n.number("alpha", 0.2), n.number("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return im.emit(aten.hardsigmoid.default, n[0])
    line = im.emit(aten.add.Tensor, im.emit(aten.mul.Tensor, n[0], alpha), beta)
    return im.emit(aten.clamp.default, line, 0.0, 1.0)


def _leaky(im: Importer, n: OnnxNode) -> Value:
    return im.emit(aten.leaky_relu.default, n[0], n.number("alpha", 0.01))


def _elu(im: Importer, n: OnnxNode) -> Value:
    return im.emit(aten.elu.default, n[0], n.number("alpha", 1.0))


def _is_nan(im: Importer, n: OnnxNode) -> Value:
    return im.emit(aten.ne.Tensor, n[0], n[0])


def _where(im: Importer, n: OnnxNode) -> Value:
    condition = n[0]
    if type_of(condition).dtype != torch.bool:
        condition = im.call(aten.to.dtype, condition, torch.bool)
    return im.call(aten.where.self, condition, n[1], n[2])


ARITHMETIC: Mapping[str, Rule] = {
    "Add": _add,
    "Sub": _binary(aten.sub.Tensor),
    "Mul": _binary(aten.mul.Tensor, commutes=True),
    "Div": _divide,
    "Mod": _modulo,
    "Pow": _power,
    "Max": _several(aten.maximum.default),
    "Min": _several(aten.minimum.default),
    "Sum": _several(aten.add.Tensor),
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Where": _where,
    "Equal": _logical(aten.eq.Tensor),
    "Less": _logical(aten.lt.Tensor),
    "LessOrEqual": _logical(aten.le.Tensor),
    "Greater": _logical(aten.gt.Tensor),
    "GreaterOrEqual": _logical(aten.ge.Tensor),
    "And": _logical(aten.logical_and.default),
    "Or": _logical(aten.logical_or.default),
    "Not": unary(aten.logical_not.default),
    "IsNaN": _is_nan,
    "Neg": unary(aten.neg.default),
    "Abs": unary(aten.abs.default),
    "Exp": unary(aten.exp.default),
    "Log": unary(aten.log.default),
    "Sqrt": unary(aten.sqrt.default),
    "Reciprocal": unary(aten.reciprocal.default),
    "Sin": unary(aten.sin.default),
    "Cos": unary(aten.cos.default),
    "Erf": unary(aten.erf.default),
    "Floor": unary(aten.floor.default),
    "Ceil": unary(aten.ceil.default),
    "Round": unary(aten.round.default),
    "Sign": unary(aten.sign.default),
    "Relu": unary(aten.relu.default),
    "Sigmoid": unary(aten.sigmoid.default),
    "Tanh": unary(aten.tanh.default),
    "Softplus": unary(aten.softplus.default),
    "Mish": unary(aten.mish.default),
    "HardSwish": unary(aten.hardswish.default),
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky,
    "Elu": _elu,
    "Gelu": _gelu,
}
