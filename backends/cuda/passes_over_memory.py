"""Normalizations, activations and quantizers: kernels that go over memory once."""

from __future__ import annotations

import torch
from torch import fx

from vitgraph.backends.cuda.building import Building, Held, spell
from vitgraph.backends.cuda.epilogue import follow
from vitgraph.backends.cuda.operands import FP16, INT8, MOST_WIDTH
from vitgraph.backends.cuda.plan import Argument, Value
from vitgraph.backends.cuda.quantizers import common_scale, reads_codes, tensor_scale
from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.calls import BinaryCall, LayerNormCall, QuantizeCall
from vitgraph.ir.tensor_type import TensorType


def lower_sum(b: Building, node: fx.Node) -> bool:
    """A sum that a layer norm follows: both in one kernel."""
    call = BinaryCall(node)
    norm = next((user for user in node.users if LayerNormCall.views(user) and _fits(b, user)), None)
    if norm is None or call.factor != 1 or not isinstance(call.right, fx.Node):
        return False
    kinds = [each.meta["type"] for each in (call.left, call.right, node)]
    if call.right.op == "get_attr" or any(kind.shape != kinds[0].shape or kind.dtype != FP16 for kind in kinds):
        return False
    _normalize(b, norm, {"x": b.half(call.right), "residual": b.half(call.left)}, node)
    return True


def lower_norm(b: Building, node: fx.Node) -> bool:
    """A layer norm by itself."""
    if not _fits(b, node):
        return False
    _normalize(b, node, {"x": b.half(LayerNormCall(node).data)}, None)
    return True


def _fits(b: Building, node: fx.Node) -> bool:
    """Whether the kernel computes it: the last dimension alone, in FP16, its weight and bias constants."""
    call, given = LayerNormCall(node), arguments(node)
    sizes, half = given["normalized_shape"], {node.meta["type"].dtype, call.data.meta["type"].dtype} == {FP16}
    constants = all(b.program.constant(each) is not None for each in (call.weight, call.bias))
    return half and constants and len(sizes) == 1 and sizes[0] <= MOST_WIDTH and given["eps"] >= 2.0**-100


def _normalize(b: Building, norm: fx.Node, given: dict[str, Argument], total: fx.Node | None) -> None:
    call = LayerNormCall(norm)
    scale = common_scale(b.program, norm)
    for name, node in (("weight", call.weight), ("bias", call.bias)):
        constant = b.program.constant(node)
        assert constant is not None  # `_fits`
        given[name] = b.weight(f"{b.names[norm]}.{name}", constant.detach().float())
    kind = TensorType(FP16 if scale is None else INT8, norm.meta["type"].shape)
    outputs = [b.buffer(b.names[norm], kind)]
    b.held[norm] = Held(outputs[0], kind, scale)
    if total is not None:
        outputs.append(b.buffer(b.names[total], total.meta["type"]))
        b.held[total] = Held(outputs[1], total.meta["type"])
    b.step("normalize", norm, given | {"eps": float(arguments(norm)["eps"]), "scale": scale}, *outputs)


def lower_gelu(b: Building, node: fx.Node) -> bool:
    """A GELU in FP16, and what follows it."""
    source = arguments(node)["self"]
    if arguments(node)["approximate"] != "none" or source.meta["type"].dtype != FP16 or source.op == "get_attr":
        return False
    x = b.half(source)
    found = follow(b, node, gelu=True)
    kind = TensorType(FP16 if found.scale is None else INT8, found.last.meta["type"].shape)
    out = b.buffer(b.names[found.last], kind)
    b.held[found.last] = Held(out, kind, found.scale)
    b.step("activate", node, {"x": x, **found.arguments(b), "scale": found.scale}, out)
    return True


def lower_quantizer(b: Building, node: fx.Node) -> bool:
    """A Q/DQ pair: codes where products read them; none where what it reads has these codes already."""
    source, scale = QuantizeCall(node).data, tensor_scale(b.program, node)
    held = b.held.get(source)
    if scale is None or held is None:
        return False
    if held.scale is not None and torch.tensor(held.scale) == torch.tensor(scale):
        b.held[node] = held
        return True
    if not reads_codes(node) or not node.meta["type"].shape:
        return False
    kind = TensorType(INT8, node.meta["type"].shape)
    x = b.half(source)
    out = b.buffer(b.names[node], kind)
    b.held[node] = Held(out, kind, scale)
    b.step("activate", node, {"x": Value(x.name), "gelu": False, "scale": scale}, out)
    return True


def lower_cast(b: Building, node: fx.Node) -> bool:
    """No step where the value is held as codes, or in FP16 already."""
    source = arguments(node)["self"]
    held, wanted = b.held.get(source), node.meta["type"].dtype
    if held is None or not wanted.is_floating_point or not (held.scale is not None or held.type.dtype == FP16):
        return False
    b.held[node] = held
    return True


def lower_layout(b: Building, node: fx.Node) -> bool:
    """Codes, and FP16 where the program has FP32, are moved as they are."""
    given = arguments(node)
    source = given["self"]
    held = b.held.get(source)
    if held is None or (held.scale is None and held.type.dtype == source.meta["type"].dtype):
        return False
    moved: dict[str, Argument] = {name: b.argument(each) for name, each in given.items() if name != "self"}
    kind = TensorType(held.type.dtype, node.meta["type"].shape)
    b.held[node] = b.called(
        node, b.names[node], spell(node.target), {"self": Value(held.name), **moved}, kind, held.scale
    )
    return True
