"""A ViT or window-attention graph written node by node, in the forms that the builder treats differently.

Node names are `<module path>/<Op>`, as vitgraph's own lowering writes them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import onnx as untyped_onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

Quantization = Literal["none", "linears", "recipe"]
Type = Literal["fp32", "fp16", "bf16"]

# onnx types its functions in part only, which strict checkers refuse.
onnx: Any = cast(Any, untyped_onnx)
PROTO = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@dataclass(frozen=True)
class Vit:
    """What to write: `stream` is the type of the residual stream, `dequantize` that of the quantized linears."""

    quantization: Quantization = "recipe"
    stream: Type = "fp16"
    dequantize: Type = "fp32"
    depth: int = 1
    dim: int = 64
    heads: int = 2
    tokens: int = 16
    windows: int | None = None
    dynamic: bool = False
    masked: bool = False
    softmax_quantized: bool = True


class _Writer:
    def __init__(self, vit: Vit) -> None:
        self.vit = vit
        self.random = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.types: dict[str, str] = {}
        self.names: dict[str, int] = {}

    def op(self, kind: str, inputs: list[str], path: str, type_: str | None = None, **attributes: Any) -> str:
        base = f"{path}/{kind}"
        self.names[base] = count = self.names.get(base, 0) + 1
        name = base if count == 1 else f"{base}_{count}"
        self.nodes.append(helper.make_node(kind, inputs, [name + ":0"], name=name, **attributes))
        self.types[name + ":0"] = type_ or self.types[inputs[0]]
        return name + ":0"

    def constant(self, name: str, values: Any, type_: str | None = None) -> str:
        array = np.asarray(values)
        if type_ is None:
            self.constants[name] = numpy_helper.from_array(array, name)
        else:
            flat = np.asarray(values, np.float32).ravel().tolist()
            self.constants[name] = helper.make_tensor(name, PROTO[type_], array.shape, flat)
            self.types[name] = type_
        return name

    def ints(self, *values: int) -> str:
        name = "ints_" + "_".join(map(str, values))
        return self.constant(name, np.asarray(values, np.int64))

    def cast(self, x: str, type_: str, path: str) -> str:
        return x if self.types[x] == type_ else self.op("Cast", [x], path, type_, to=PROTO[type_])

    def quantize(self, x: str, path: str, scale: float) -> str:
        type_ = self.types[x]
        scale_name = self.constant(f"{path}.scale_{len(self.nodes)}", np.asarray(scale), type_)
        zero = self.constant("zero", np.zeros((), np.int8))
        codes = self.op("QuantizeLinear", [x, scale_name, zero], path, "int8")
        return self.op("DequantizeLinear", [codes, scale_name, zero], path, type_)

    def linear(self, x: str, path: str, n_in: int, n_out: int, *, quantize_output: bool = False) -> str:
        values = self.random.standard_normal((n_in, n_out)) * 0.05
        if self.vit.masked:
            groups = values.reshape(-1, 4, n_out)
            np.put_along_axis(groups, np.argsort(np.abs(groups), axis=1)[:, :2], 0.0, axis=1)
        if self.vit.quantization == "none":
            weight = self.constant(path + ".weight", values, self.types[x])
        else:
            x = self.quantize(self.cast(x, self.vit.dequantize, path), path, 0.02)
            weight = self.int8_weight(path, values)
        y = self.op("MatMul", [x, weight], path)
        y = self.op("Add", [y, self.constant(path + ".bias", np.zeros(n_out), self.types[y])], path)
        if quantize_output:
            y = self.quantize(y, path, 0.05)
        return self.cast(y, self.vit.stream, path)

    def int8_weight(self, path: str, values: NDArray[np.float64]) -> str:
        scales = np.abs(values).max(axis=0) / 127
        codes = self.constant(path + ".weight", np.asarray(np.rint(values / scales), np.int8))
        zeros = self.constant(path + ".zeros", np.zeros(values.shape[1], np.int8))
        scale = self.constant(path + ".weight_scale", scales, self.vit.dequantize)
        return self.op("DequantizeLinear", [codes, scale, zeros], path, self.vit.dequantize, axis=1)

    def norm(self, x: str, path: str) -> str:
        gamma = self.constant(path + ".weight", 1 + 0.1 * self.random.standard_normal(self.vit.dim), self.types[x])
        beta = self.constant(path + ".bias", 0.1 * self.random.standard_normal(self.vit.dim), self.types[x])
        return self.op("LayerNormalization", [x, gamma, beta], path, axis=-1, epsilon=1e-6)

    def attention(self, x: str, path: str) -> str:
        vit = self.vit
        size, inner = vit.dim // vit.heads, vit.quantization == "recipe"
        qkv = self.linear(x, path + ".qkv", vit.dim, 3 * vit.dim, quantize_output=inner)
        qkv = self.op("Reshape", [qkv, self.ints(-1, vit.tokens, 3, vit.heads, size)], path)
        qkv = self.op("Transpose", [qkv], path, perm=[2, 0, 3, 1, 4])
        q, k, v = (self.op("Gather", [qkv, self.constant(f"at_{i}", np.int64(i))], path, axis=0) for i in range(3))
        q = self.op("Mul", [q, self.constant(path + ".scale", np.asarray(size**-0.5), vit.stream)], path)
        scores = self.op("MatMul", [q, self.op("Transpose", [k], path, perm=[0, 1, 3, 2])], path)
        if vit.windows is not None:
            scores = self.window_bias(scores, path)
        weights = self.op("Softmax", [scores], path, axis=-1)
        if inner and vit.softmax_quantized:
            weights = self.quantize(weights, path + ".softmax", 1 / 127)
        y = self.op("Transpose", [self.op("MatMul", [weights, v], path)], path, perm=[0, 2, 1, 3])
        return self.linear(
            self.op("Reshape", [y, self.ints(-1, vit.tokens, vit.dim)], path), path + ".proj", vit.dim, vit.dim
        )

    def window_bias(self, scores: str, path: str) -> str:
        """Swin's relative-position bias and shift mask, [1, H, N, N] and [1, W, 1, N, N]."""
        vit, windows = self.vit, self.vit.windows or 1
        bias = self.random.standard_normal((1, vit.heads, vit.tokens, vit.tokens))
        scores = self.op("Add", [scores, self.constant(path + ".bias", bias, vit.stream)], path)
        scores = self.op("Reshape", [scores, self.ints(-1, windows, vit.heads, vit.tokens, vit.tokens)], path)
        mask = -100.0 * (self.random.random((1, windows, 1, vit.tokens, vit.tokens)) < 0.3)
        scores = self.op("Add", [scores, self.constant(path + ".mask", mask, vit.stream)], path)
        return self.op("Reshape", [scores, self.ints(-1, vit.heads, vit.tokens, vit.tokens)], path)

    def block(self, x: str, path: str) -> str:
        dim = self.vit.dim
        x = self.op("Add", [x, self.attention(self.norm(x, path + ".norm1"), path + ".attn")], path)
        y = self.linear(self.norm(x, path + ".norm2"), path + ".mlp.fc1", dim, 4 * dim)
        y = self.linear(self.op("Gelu", [y], path + ".mlp.act"), path + ".mlp.fc2", 4 * dim, dim)
        return self.op("Add", [x, y], path)


def make_vit(vit: Vit) -> ModelProto:
    """The model of `vit`: tokens [B, N, D] in FP32 in and out, opset 20."""
    writer = _Writer(vit)
    batch: int | str = "batch" if vit.dynamic else (vit.windows or 1)
    writer.types["x"] = "fp32"
    y = writer.cast("x", vit.stream, "input")
    for i in range(vit.depth):
        y = writer.block(y, f"blocks.{i}")
    y = writer.cast(writer.norm(y, "norm"), "fp32", "output")
    writer.nodes.append(helper.make_node("Identity", [y], ["y"], name="output/Identity"))
    shape = [batch, vit.tokens, vit.dim]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, cast(Any, shape)) for name in ("x", "y")]
    graph = helper.make_graph(writer.nodes, "vit", ends[:1], ends[1:], list(writer.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def write_vit(vit: Vit, path: Path) -> Path:
    """Save the model of `vit` at `path`."""
    onnx.save(make_vit(vit), path)
    return path


def linear_nodes(vit: Vit) -> list[str]:
    """The MatMul node names of the block linears."""
    parts = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    return [f"blocks.{i}.{part}/MatMul" for i in range(vit.depth) for part in parts]


def softmax_nodes(vit: Vit) -> list[str]:
    """The Softmax node names of the attentions."""
    return [f"blocks.{i}.attn/Softmax" for i in range(vit.depth)]
