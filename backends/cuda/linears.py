"""Linears of INT8 codes: dense by one kernel with its epilogue, 2:4 by the sparse product and a pass for the epilogue."""

from __future__ import annotations

from torch import Tensor, fx

from vitgraph.backends.cuda.building import Building, Held
from vitgraph.backends.cuda.epilogue import Epilogue, follow
from vitgraph.backends.cuda.operands import FP16, INT8
from vitgraph.backends.cuda.plan import PADDING, Argument, Value
from vitgraph.ir.calls import DequantizeCall, LinearCall, WeightedCall
from vitgraph.ir.navigate import path_of
from vitgraph.ir.packing import Packing
from vitgraph.ir.tensor_type import TensorType

TWO_OF_FOUR = Packing(2, 4)


def lower_linear(b: Building, node: fx.Node) -> str:
    """Give a linear of codes its steps; why not, where it is none that the kernels compute."""
    call = LinearCall(node)
    x, weight = b.held.get(call.data), DequantizeCall.of(call.weight)
    if x is None or x.scale is None:
        return "its input has no INT8 codes with one scale"
    if weight is None or weight.format.name != "int8":
        return "its weight is not stored in INT8"
    codes, scale = b.program.constant(weight.codes), b.program.constant(weight.scale)
    bias = None if call.bias is None else b.program.constant(call.bias)
    if codes is None or scale is None or (call.bias is not None and bias is None):
        return "its weight or bias is not a constant"
    if scale.dim() > 1 or (scale.numel() > 1 and weight.axis not in (0, -2)):
        return "its weight has scales other than one for each output"
    _steps(b, node, x, codes, scale.detach().float().reshape(-1).expand(codes.shape[0]) * x.scale, bias)
    return ""


def _steps(b: Building, node: fx.Node, x: Held, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
    """The product by the kernel that its weight has, and what of the graph it takes in."""
    why = _not_sparse(b, node, codes)
    epilogue = follow(b, node)
    name = b.names[node]
    given: dict[str, Argument] = {"w": b.weight(f"{name}.codes", codes), "scale": b.weight(f"{name}.scale", scale)}
    tail: dict[str, Argument] = {"bias": None if bias is None else b.weight(f"{name}.bias", bias.detach().float())}
    tail |= epilogue.arguments(b)
    if why:
        _store(b, node, epilogue, {"x": Value(x.name), **given, **tail})
    else:
        _sparse(b, node, epilogue, x, given, tail)
    stages = (["bias"] if bias is not None else []) + epilogue.names()
    reasons = [each for each in (why.removeprefix("dense"), epilogue.why) if each]
    b.choose(node, "int8" if why else "int8 2:4", "linear" if why else "sparse linear", stages, "; ".join(reasons))


def _sparse(
    b: Building, node: fx.Node, epilogue: Epilogue, x: Held, given: dict[str, Argument], tail: dict[str, Argument]
) -> None:
    """The sparse product, which dequantizes, and a pass for the rest."""
    padded = _padded(b, node, x)
    product = b.buffer(f"{b.names[node]}_product", TensorType(FP16, node.meta["type"].shape))
    b.pad(product)
    b.step("sparse linear", node, {"x": Value(padded), **given}, product)
    _store(b, node, epilogue, {"x": Value(product), **tail}, kernel="activate")


def _padded(b: Building, node: fx.Node, x: Held) -> str:
    """A buffer of the codes that has padded rows: the one they were written to by a kernel, or a copy."""
    if any(x.name in step.outputs and step.kernel != "torch" for step in b.steps):
        b.pad(x.name)
        return x.name
    copy = b.called(node, f"{x.name}_padded", "aten.clone.default", {"self": Value(x.name)}, x.type)
    b.pad(copy.name)
    return copy.name


def _store(b: Building, node: fx.Node, epilogue: Epilogue, given: dict[str, Argument], kernel: str = "linear") -> None:
    """The step that ends in the epilogue's last node."""
    kind = TensorType(FP16 if epilogue.scale is None else INT8, epilogue.last.meta["type"].shape)
    out = b.buffer(b.names[epilogue.last], kind)
    if kernel == "linear":
        b.step("linear", node, given | {"out_scale": epilogue.scale}, out)
    else:
        b.step("activate", node, given | {"scale": epilogue.scale}, out)
    b.held[epilogue.last] = Held(out, kind, epilogue.scale)


def _not_sparse(b: Building, node: fx.Node, codes: Tensor) -> str:
    """Why a weight is not for the sparse product; empty where it is, and `dense` where nothing says it should be."""
    masked = (path_of(node), 0) in b.program.masks
    if not TWO_OF_FOUR.holds(codes != 0) or not bool((codes == 0).any()):
        return "its mask is not 2:4" if masked else "dense"
    if any(size % PADDING for size in codes.shape):
        return f"2:4, but {list(codes.shape)} are no multiples of {PADDING}"
    return ""


def lower_product(b: Building, node: fx.Node) -> bool:
    """A linear or convolution: by a kernel, or as torch computes it, with the reason."""
    why = lower_linear(b, node) if LinearCall.views(node) else "a convolution has no INT8 kernel"
    if why:
        b.torch_step(node)
        dtype = str(node.meta["type"].dtype).removeprefix("torch.float")
        rounded = WeightedCall(node).data in b.held and DequantizeCall.views(WeightedCall(node).weight)
        b.choose(node, f"fp{dtype}", "torch", why=why if rounded else "its program has no INT8 weight and input")
    return True
