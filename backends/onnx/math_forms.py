"""ONNX forms of arithmetic, comparisons, activations and products."""

from __future__ import annotations

import string
from typing import Any

import torch
from torch import fx

from vitgraph.backends.onnx.graph_builder import Call, Lowering, NoLowering, Result, Rule, Table, tensor_type
from vitgraph.ir.dialect import UMAX, aten, log2_quantize, log2_thresholds
from vitgraph.ir.tensor_type import IntType, TensorType


def _promoted(*arguments: Any) -> torch.dtype:
    """The type torch computes in for these operands: tensors, whole numbers of the graph and Python numbers."""
    stand_ins = [_stand_in(argument) for argument in arguments]
    return torch.result_type(stand_ins[0], stand_ins[1])


def _stand_in(argument: Any) -> Any:
    if not isinstance(argument, fx.Node):
        return argument
    kind = argument.meta["type"]
    if isinstance(kind, IntType):
        return 1
    assert isinstance(kind, TensorType)
    return torch.empty((1,) * kind.rank, dtype=kind.dtype)


def _binary(op: str, second: str = "other", **attributes: Any) -> Rule:
    """Both operands in the type of the result."""

    def lower(g: Lowering, call: Call) -> Result:
        dtype = call.type.dtype
        return g.emit(op, g.operand(call["self"], dtype), g.operand(call[second], dtype), **attributes)

    return lower


def _quotient(g: Lowering, call: Call) -> Result:
    """By a half number whose reciprocal no half type holds, in FP32: runtimes multiply by reciprocals."""
    dtype, divisor = call.type.dtype, call["other"]
    if dtype == torch.float16 and isinstance(divisor, int | float) and abs(divisor) * torch.finfo(dtype).max < 1:
        wide = torch.float32
        return g.cast(g.emit("Div", g.operand(call["self"], wide), g.number(divisor, wide)), wide, dtype)
    return _binary("Div")(g, call)


def _whole_quotient(g: Lowering, call: Call) -> Result:
    """ONNX divides whole numbers towards zero."""
    if call["rounding_mode"] != "trunc" or call.type.dtype.is_floating_point:
        raise NoLowering(
            "a rounded quotient takes whole numbers and rounds towards zero; canonicalize writes the others so"
        )
    return _binary("Div")(g, call)


def _scaled_binary(op: str) -> Rule:
    """add and sub, whose second operand may be multiplied by `alpha`."""

    def lower(g: Lowering, call: Call) -> Result:
        dtype = call.type.dtype
        other = g.operand(call["other"], dtype)
        if call["alpha"] != 1:
            other = g.emit("Mul", other, g.number(call["alpha"], dtype))
        return g.emit(op, g.operand(call["self"], dtype), other)

    return lower


def _compare(op: str, negated: bool = False) -> Rule:
    """In the type that torch compares in; ONNX orders numbers only, truth values as such."""

    def lower(g: Lowering, call: Call) -> Result:
        dtype = _promoted(call["self"], call["other"])
        dtype = torch.int32 if dtype == torch.bool and op != "Equal" else dtype
        result = g.emit(op, g.operand(call["self"], dtype), g.operand(call["other"], dtype))
        return g.emit("Not", result) if negated else result

    return lower


def _logical(op: str) -> Rule:
    def lower(g: Lowering, call: Call) -> Result:
        names = ("self",) if op == "Not" else ("self", "other")
        return g.emit(op, *(g.operand(call[name], torch.bool) for name in names))

    return lower


def _unary(op: str, **attributes: Any) -> Rule:
    """One operand, in the type of the result: the exponential of whole numbers is computed in floating point."""

    def lower(g: Lowering, call: Call) -> Result:
        return g.emit(op, g.operand(call["self"], call.type.dtype), **attributes)

    return lower


def _neg(g: Lowering, call: Call) -> Result:
    """ONNX negates signed numbers alone; the cast back wraps, as torch does."""
    dtype = call.type.dtype
    if dtype != torch.uint8:
        return g.emit("Neg", g.operand(call["self"], dtype))
    return g.cast(g.emit("Neg", g.operand(call["self"], torch.int32)), torch.int32, dtype)


def _pow(g: Lowering, call: Call) -> Result:
    dtype, exponent = call.type.dtype, call["exponent"]
    x = g.operand(call["self"], dtype)
    if exponent == 2:
        return g.emit("Mul", x, x)
    if exponent == 0.5:
        return g.emit("Sqrt", x)
    return g.emit("Pow", x, g.number(exponent, dtype))


def _rsqrt(g: Lowering, call: Call) -> Result:
    return g.emit("Reciprocal", g.emit("Sqrt", g.operand(call["self"], call.type.dtype)))


def _clamp(g: Lowering, call: Call) -> Result:
    dtype = call.type.dtype
    low, high = (None if call[name] is None else g.number(call[name], dtype) for name in ("min", "max"))
    return g.emit("Clip", g.operand(call["self"], dtype), low, high)


def _where(g: Lowering, call: Call) -> Result:
    dtype = call.type.dtype
    yes, no = g.operand(call["self"], dtype), g.operand(call["other"], dtype)
    return g.emit("Where", g.operand(call["condition"], torch.bool), yes, no)


def _masked_fill(g: Lowering, call: Call) -> Result:
    dtype = call.type.dtype
    filler = g.number(call["value"], dtype)
    return g.emit("Where", g.operand(call["mask"], torch.bool), filler, g.value(call["self"]))


def _log2_quantize(g: Lowering, call: Call) -> Result:
    """The exponent is counted, not computed: how many thresholds are reached. A logarithm would round near them."""
    x, dtype = g.operand(call["x"], torch.float32), torch.float32
    if call["scale"] is not None:
        scale = g.operand(call["scale"], dtype)
        code = g.emit("Round", g.emit("Div", x, scale))
        x = g.emit("Mul", g.emit("Clip", code, g.number(1.0, dtype), g.number(float(UMAX), dtype)), scale)
    rule, low, high = str(call["rule"]), int(call["low"]), int(call["high"])
    steps = g.small(f"log2/{rule}/{low}/{high}", log2_thresholds(rule, low, high))
    reached = g.emit("GreaterOrEqual", g.emit("Unsqueeze", x, g.ints([-1])), steps)
    count = g.emit("ReduceSum", g.cast(reached, torch.bool, dtype), g.ints([-1]), keepdims=0)
    power = g.emit("Pow", g.number(2.0, dtype), g.emit("Add", count, g.number(float(low), dtype)))
    return g.cast(power, dtype, call.type.dtype)


def _gelu(g: Lowering, call: Call) -> Result:
    return g.emit("Gelu", g.value(call["self"]), approximate=str(call["approximate"]))


def _silu(g: Lowering, call: Call) -> Result:
    x = g.value(call["self"])
    return g.emit("Mul", x, g.emit("Sigmoid", x))


def _leaky_relu(g: Lowering, call: Call) -> Result:
    return g.emit("LeakyRelu", g.value(call["self"]), alpha=float(call["negative_slope"]))


def _elu(g: Lowering, call: Call) -> Result:
    if call["input_scale"] != 1:
        raise NoLowering("elu with an input scale has no lowering")
    dtype = call.type.dtype
    if call["scale"] == 1:
        return g.emit("Elu", g.value(call["self"]), alpha=float(call["alpha"]))
    y = g.emit("Elu", g.value(call["self"]), alpha=float(call["alpha"]))
    return g.emit("Mul", y, g.number(call["scale"], dtype))


def _softplus(g: Lowering, call: Call) -> Result:
    """log(1 + exp(beta x)) / beta; past the threshold torch gives x, which this equals to the last digit at 20."""
    dtype, beta, threshold = call.type.dtype, call["beta"], call["threshold"]
    x = g.value(call["self"])
    scaled = x if beta == 1 else g.emit("Mul", x, g.number(beta, dtype))
    y = g.emit("Softplus", scaled)
    y = y if beta == 1 else g.emit("Div", y, g.number(beta, dtype))
    if threshold >= _SAME_FROM:
        return y
    return g.emit("Where", g.emit("Greater", scaled, g.number(threshold, dtype)), x, y)


_SAME_FROM = 20
"""From here on softplus(x) is x, in FP32 and in narrower types; torch's default threshold."""


def _prelu(g: Lowering, call: Call) -> Result:
    slope, rank = tensor_type(call["weight"]), call.type.rank
    size = slope.static[0] if slope.rank else 1
    shape = [1] * rank if size == 1 else [size] + [1] * (rank - 2)
    return g.emit("PRelu", g.value(call["self"]), g.reshape(g.value(call["weight"]), slope.shape, shape))


def _matmul(g: Lowering, call: Call) -> Result:
    return g.emit("MatMul", g.value(call["self"]), g.value(call["other"]))


def _einsum(g: Lowering, call: Call) -> Result:
    """ONNX's letters are small ones."""
    equation = str(call["equation"]).replace(" ", "")
    letters = dict.fromkeys(letter for letter in equation if letter.isalpha())
    small = str.maketrans(dict(zip(letters, string.ascii_lowercase, strict=False)))
    equation = equation.translate(small)
    return g.emit("Einsum", *(g.value(node) for node in call["tensors"]), equation=equation)


MATH: Table = {
    aten.matmul.default: _matmul,
    aten.einsum.default: _einsum,
    aten.add.Tensor: _scaled_binary("Add"),
    aten.sub.Tensor: _scaled_binary("Sub"),
    aten.mul.Tensor: _binary("Mul"),
    aten.div.Tensor: _quotient,
    aten.div.Tensor_mode: _whole_quotient,
    aten.fmod.Tensor: _binary("Mod", fmod=1),
    aten.maximum.default: _binary("Max"),
    aten.minimum.default: _binary("Min"),
    aten.pow.Tensor_Scalar: _pow,
    aten.pow.Tensor_Tensor: _binary("Pow", second="exponent"),
    aten.neg.default: _neg,
    aten.abs.default: _unary("Abs"),
    aten.exp.default: _unary("Exp"),
    aten.log.default: _unary("Log"),
    aten.sqrt.default: _unary("Sqrt"),
    aten.rsqrt.default: _rsqrt,
    aten.reciprocal.default: _unary("Reciprocal"),
    aten.sin.default: _unary("Sin"),
    aten.cos.default: _unary("Cos"),
    aten.erf.default: _unary("Erf"),
    aten.floor.default: _unary("Floor"),
    aten.ceil.default: _unary("Ceil"),
    aten.round.default: _unary("Round"),
    aten.sign.default: _unary("Sign"),
    aten.clamp.default: _clamp,
    aten.where.self: _where,
    aten.masked_fill.Scalar: _masked_fill,
    aten.eq.Scalar: _compare("Equal"),
    aten.ne.Scalar: _compare("Equal", negated=True),
    aten.eq.Tensor: _compare("Equal"),
    aten.ne.Tensor: _compare("Equal", negated=True),
    aten.lt.Tensor: _compare("Less"),
    aten.le.Tensor: _compare("LessOrEqual"),
    aten.gt.Tensor: _compare("Greater"),
    aten.ge.Tensor: _compare("GreaterOrEqual"),
    aten.logical_not.default: _logical("Not"),
    aten.logical_and.default: _logical("And"),
    aten.logical_or.default: _logical("Or"),
    log2_quantize: _log2_quantize,
    aten.gelu.default: _gelu,
    aten.relu.default: _unary("Relu"),
    aten.silu.default: _silu,
    aten.sigmoid.default: _unary("Sigmoid"),
    aten.tanh.default: _unary("Tanh"),
    aten.hardswish.default: _unary("HardSwish"),
    aten.hardsigmoid.default: _unary("HardSigmoid", alpha=1 / 6, beta=0.5),
    aten.leaky_relu.default: _leaky_relu,
    aten.elu.default: _elu,
    aten.softplus.default: _softplus,
    aten.mish.default: _unary("Mish"),
    aten.prelu.default: _prelu,
}
