"""A canonical program as the kernels that a builder makes of it, which `vitgraph.cost.roofline` estimates.

Each product, attention, norm, softmax and copy is a kernel. What acts on every element (bias, activation, residual
addition, scales) is fused into the kernel ahead of it; views, masks and what depends on constants alone cost nothing:

    linear, gelu, fake_quantize    one kernel; writes 8 bits an element
    linear, add, layer_norm        two; the sum is written once and read once, by the norm

That is about what TensorRT makes of a transformer (docs/engine.md). Sizes are those of one image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx

from vitgraph.cost.kernel import Kernel
from vitgraph.cost.products import Product, bits_of, find_products, images_of, sizes, volume
from vitgraph.cost.workload import Attention, Gemm, Zeros
from vitgraph.ir.calls import PairCall, operands_of
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import FREE, is_pointwise
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType


def find_kernels(program: Program, products: Sequence[Product] | None = None) -> tuple[Kernel, ...]:
    """Every kernel of a canonical program, in graph order; `products` are the program's, where they are at hand."""
    found = {product.node: product for product in (find_products(program) if products is None else products)}
    heads = _group(program, found)
    moved = _moved(program, heads)
    return tuple(_kernel(head, found.get(head), moved[head]) for head in moved)


def _group(program: Program, products: dict[fx.Node, Product]) -> dict[fx.Node, fx.Node]:
    """Every node that depends on an input, with the head of its kernel: what it is fused into, or itself."""
    heads = dict[fx.Node, fx.Node]((node, node) for node in program.inputs)
    order = dict[fx.Node, int]((node, -1) for node in program.inputs)
    for node in program.calls():
        sources = [heads[arg] for arg in node.all_input_nodes if arg in heads]
        if not sources:
            continue
        last = max(sources, key=lambda head: order[head])
        fused = node not in products and is_pointwise(node.target) and last.op != "placeholder"
        heads[node] = last if fused or _is_view(node) else node
        order.setdefault(heads[node], len(order))
    return heads


def _is_view(node: fx.Node) -> bool:
    return node.target in FREE or not isinstance(node.meta["type"], TensorType)


def _moved(program: Program, heads: dict[fx.Node, fx.Node]) -> dict[fx.Node, float]:
    """Bytes for one image that each kernel reads of other kernels' values and inputs, and writes for others and outputs."""
    images = images_of(program)
    moved = {head: 0.0 for head in heads.values() if head.op != "placeholder"}
    read, written = set[tuple[fx.Node, fx.Node]](), set[tuple[fx.Node, int]]()
    for value, reader in _crossings(program, heads):
        source = _before_views(value)
        if reader is not None and (value, reader) not in read:
            read.add((value, reader))
            moved[reader] += _bytes(value, value) / images
        if heads[value] in moved and (source, bits_of(value)) not in written:
            written.add((source, bits_of(value)))
            moved[heads[value]] += _bytes(source, value) / images
    return moved


def _crossings(program: Program, heads: dict[fx.Node, fx.Node]) -> Iterator[tuple[fx.Node, fx.Node | None]]:
    """Each value that leaves its kernel, with the head of the kernel that reads it; None is an output."""
    for node, head in heads.items():
        for arg in node.all_input_nodes:
            if arg in heads and heads[arg] is not head and isinstance(arg.meta["type"], TensorType):
                yield arg, head
    yield from ((arg, None) for arg in program.output.all_input_nodes if arg in heads)


def _before_views(value: fx.Node) -> fx.Node:
    while value.op == "call_function" and value.target in FREE:
        value = value.args[0]  # type: ignore[assignment]
    return value


def _bytes(shape: fx.Node, kind: fx.Node) -> float:
    return volume(sizes(shape)) * bits_of(kind) / 8


def _kernel(head: fx.Node, product: Product | None, moved: float) -> Kernel:
    if product is None:
        return Kernel(path_of(head), "moves", _kind(head), None, moved)
    kind, path, role = _kind_of_product(head, product), product.path, product.role
    if role == "attention":
        q, k, v = map(sizes, operands_of(head))
        return Kernel(path, role, kind, Attention(product.count, q[-2], k[-2], q[-1], v[-1]), moved)
    gemm = Gemm(product.m, product.n, product.k, product.count)
    if product.weight is None:
        return Kernel(path, role, kind, gemm, moved)
    depthwise = product.n == 1 and product.count > 1  # one filter a channel: no product of matrices to speak of
    weights, bits = product.n * product.k * product.count, product.bits[1]
    return Kernel(path, role, kind, None if depthwise else gemm, moved, weights, bits, Zeros(product.packing))


def _kind_of_product(node: fx.Node, product: Product) -> str:
    """What is multiplied: the wider of the two operands' types."""
    widest = max(product.bits)
    if widest > 8:
        return _kind(node)
    formats = {_format(operand) for operand in operands_of(node)}
    return "fp8" if "fp8" in formats else f"int{widest}"


def _format(value: Any) -> str | None:
    while isinstance(value, fx.Node) and value.op == "call_function":
        pair = PairCall.of(value)
        if pair is not None:
            return pair.format.name
        value = value.args[0]
    return None


def _kind(node: fx.Node) -> str:
    """A floating-point type by its name; FP32 products run in TF32, as TensorRT builds them unless told otherwise."""
    dtype: torch.dtype = node.meta["type"].dtype
    return {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, "tf32")
