"""ONNX forms of what runs along axes: softmax, reductions, norms, and normalizations."""

from __future__ import annotations

import math

import onnx_ir as ir
import torch
from torch import fx

from vitgraph.backends.onnx.graph_builder import Call, Lowering, NoLowering, Result, Rule, Table, tensor_type
from vitgraph.ir.calls import rms_epsilon
from vitgraph.ir.dialect import aten
from vitgraph.ir.tensor_type import Dim


def _softmax(op: str) -> Rule:
    def lower(g: Lowering, call: Call) -> Result:
        return g.emit(op, g.operand(call["self"], call.type.dtype), axis=int(call["dim"]))

    return lower


def _axes(call: Call, name: str = "dim") -> list[int]:
    """The axes of a reduction, counted from the front; all of them where none is given."""
    rank = tensor_type(call["self"]).rank
    given = call[name]
    if given is None or given == []:
        return list(range(rank))
    axes: list[int] = [given] if isinstance(given, int) else list(given)
    return sorted(axis % rank for axis in axes)


def _reduce(op: str) -> Rule:
    def lower(g: Lowering, call: Call) -> Result:
        x = g.operand(call["self"], call.type.dtype)
        return g.emit(op, x, g.ints(_axes(call)), keepdims=int(call["keepdim"]))

    return lower


def _vector_norm(g: Lowering, call: Call) -> Result:
    x, axes, keep = g.operand(call["self"], call.type.dtype), g.ints(_axes(call)), int(call["keepdim"])
    order = float(call["ord"])
    if order in (1.0, 2.0):
        return g.emit(f"ReduceL{int(order)}", x, axes, keepdims=keep)
    if order in (math.inf, -math.inf):
        return g.emit("ReduceMax" if order > 0 else "ReduceMin", g.emit("Abs", x), axes, keepdims=keep)
    raise NoLowering(f"a norm of order {order} has no lowering")


def _variance(g: Lowering, call: Call) -> Result:
    axes, kind = _axes(call), tensor_type(call["self"])
    sizes = [kind.shape[axis] for axis in axes]
    if any(isinstance(size, Dim) for size in sizes):
        raise NoLowering("a variance along the batch has no lowering")
    count = math.prod(int(size) for size in sizes if isinstance(size, int))
    correction = 1 if call["correction"] is None else call["correction"]
    x = g.value(call["self"])
    centred = g.emit("Sub", x, g.emit("ReduceMean", x, g.ints(axes), keepdims=1))
    total = g.emit("ReduceSum", g.emit("Mul", centred, centred), g.ints(axes), keepdims=int(call["keepdim"]))
    return g.emit("Div", total, g.number(float(max(0, count - correction)), kind.dtype))


def _argmax(g: Lowering, call: Call) -> Result:
    x, kind = g.value(call["self"]), tensor_type(call["self"])
    if call["dim"] is None:
        flat = g.emit("Reshape", x, g.ints([-1]))
        place = g.emit("ArgMax", flat, axis=0, keepdims=0)
        return g.emit("Reshape", place, g.ints([1] * kind.rank)) if call["keepdim"] else place
    return g.emit("ArgMax", x, axis=int(call["dim"]), keepdims=int(call["keepdim"]))


def _cumsum(g: Lowering, call: Call) -> Result:
    return g.emit("CumSum", g.operand(call["self"], call.type.dtype), g.number(int(call["dim"]), torch.int64))


def _topk(g: Lowering, call: Call) -> Result:
    return g.emit_many(
        "TopK",
        2,
        g.value(call["self"]),
        g.sizes([call["k"]]),
        axis=int(call["dim"]),
        largest=int(call["largest"]),
        sorted=1,
    )


def _layer_norm(g: Lowering, call: Call) -> Result:
    shape, dtype = call["normalized_shape"], call.type.dtype
    if not all(isinstance(size, int) for size in shape):
        raise NoLowering("a layer norm along the batch has no lowering")
    if call["weight"] is not None:
        scale = g.operand(call["weight"], dtype)
    else:
        name = f"ones/{list(shape)}/{dtype}"
        scale = g.small(name, torch.ones([int(size) for size in shape], dtype=dtype))
    shift = None if call["bias"] is None else g.operand(call["bias"], dtype)
    return g.emit(
        "LayerNormalization", g.value(call["input"]), scale, shift, axis=-len(shape), epsilon=float(call["eps"])
    )


def _rms_norm(g: Lowering, call: Call) -> Result:
    dtype, count = call.type.dtype, len(call["normalized_shape"])
    eps = rms_epsilon(dtype) if call["eps"] is None else float(call["eps"])
    x = g.value(call["input"])
    mean = g.emit("ReduceMean", g.emit("Mul", x, x), g.ints(list(range(-count, 0))), keepdims=1)
    y = g.emit("Div", x, g.emit("Sqrt", g.emit("Add", mean, g.number(eps, dtype))))
    return y if call["weight"] is None else g.emit("Mul", y, g.operand(call["weight"], dtype))


def _batch_norm(g: Lowering, call: Call) -> Result:
    dtype = call.type.dtype
    if call["training"] or call["running_mean"] is None or call["running_var"] is None:
        raise NoLowering("batch normalization over the batch itself has no lowering; capture the model in eval mode")
    channels, within = tensor_type(call["running_mean"]).static[0], tensor_type(call["running_mean"]).dtype
    scale = g.filled(1.0, channels, within) if call["weight"] is None else g.operand(call["weight"], within)
    shift = g.filled(0.0, channels, within) if call["bias"] is None else g.operand(call["bias"], within)
    mean, variance = g.value(call["running_mean"]), g.value(call["running_var"])
    x = g.operand(call["input"], within)  # in the type of the statistics, as torch does: OpenVINO takes no two
    y = g.emit("BatchNormalization", x, scale, shift, mean, variance, epsilon=float(call["eps"]))
    return g.cast(y, within, dtype)


def _group_norm(g: Lowering, call: Call) -> Result:
    """Not GroupNormalization, whose scale changed meaning between opsets: instance norm over groups, then the affine."""
    kind, groups, dtype = call.type, int(call["num_groups"]), call.type.dtype
    flat = g.emit("Reshape", g.value(call["input"]), g.ints([0, groups, -1]))
    ones, zeros = g.filled(1.0, groups, dtype), g.filled(0.0, groups, dtype)
    y = g.emit("InstanceNormalization", flat, ones, zeros, epsilon=float(call["eps"]))
    y = g.reshape(y, [], kind.shape)
    for op, name in (("Mul", "weight"), ("Add", "bias")):
        if call[name] is not None:
            y = g.emit(op, y, _along_channels(g, call[name], kind.rank))
    return y


def _along_channels(g: Lowering, node: fx.Node, rank: int) -> ir.Value:
    """A vector `[C]` shaped `[C, 1, ...]` to meet `[N, C, ...]`."""
    size = tensor_type(node).static[0]
    return g.reshape(g.value(node), [size], [size] + [1] * (rank - 2))


REDUCE: Table = {
    aten.layer_norm.default: _layer_norm,
    aten.rms_norm.default: _rms_norm,
    aten.batch_norm.default: _batch_norm,
    aten.group_norm.default: _group_norm,
    aten.linalg_vector_norm.default: _vector_norm,
    aten.softmax.int: _softmax("Softmax"),
    aten.log_softmax.int: _softmax("LogSoftmax"),
    aten.mean.dim: _reduce("ReduceMean"),
    aten.sum.dim_IntList: _reduce("ReduceSum"),
    aten.prod.dim_int: _reduce("ReduceProd"),
    aten.amax.default: _reduce("ReduceMax"),
    aten.amin.default: _reduce("ReduceMin"),
    aten.argmax.default: _argmax,
    aten.var.correction: _variance,
    aten.cumsum.default: _cumsum,
    aten.topk.default: _topk,
}
