"""The products of matrices in a canonical program, found once: what they multiply, in which type, with how many zeros.

A linear with M rows, K inputs and N outputs is one product of M×K by K×N, a convolution one for each of its groups, an
attention two for each of its heads: M·K·N multiply-accumulates each. Sizes are those of one image; `Product.macs` times
the batch is what a batch takes. A zero is a weight that a mask or the constant itself holds at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.analysis.sites import find_sites
from vitgraph.ir import dialect
from vitgraph.ir.calls import PairCall, WeightedCall, operands_of
from vitgraph.ir.dialect import aten
from vitgraph.ir.mask_patterns import kept
from vitgraph.ir.navigate import path_of, weight_of
from vitgraph.ir.operator_classes import KEEPS_CODES
from vitgraph.ir.packing import Packing, find_packing
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, Size, TensorType

MIN_ZEROS = 0.2
"""Fewer zeros than this are no pattern anybody packs."""


@dataclass(frozen=True)
class Product:
    """`count` products of `[m, k]` by `[k, n]` for one image."""

    node: fx.Node
    path: str
    role: str
    """A linear's role; `attention` (the two products of one) or `matmul` where both operands are computed."""
    m: int
    n: int
    k: int
    count: int
    bits: tuple[int, int]
    """Of the left operand and the right one (the weight, where there is one)."""
    weight: str | None = None
    """The name of the constant that is multiplied by."""
    density: float = 1.0
    """The share of weights that are not zero."""
    packing: Packing | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image, zeros included."""
        return self.m * self.n * self.k * self.count

    @property
    def nonzero_macs(self) -> int:
        """Multiply-accumulates with weights that are not zero."""
        return round(self.macs * self.density)

    @property
    def bit_operations(self) -> int:
        """Multiply-accumulates with weights that are not zero, times the bits of both operands."""
        return self.nonzero_macs * self.bits[0] * self.bits[1]


def find_products(program: Program) -> tuple[Product, ...]:
    """Every product of a canonical program, in graph order."""
    roles = {site.node: site.role for site in find_sites(program).linears} if program.form == "canonical" else {}
    images = images_of(program)
    found = list[Product]()
    for node in program.calls():
        shape = _SHAPES.get(node.target)
        if shape is not None:
            found += shape(program, node, roles.get(node, "other"), images)
    return tuple(found)


def images_of(program: Program) -> int:
    """How many images the sizes in the graph are for: the batch where it is fixed, else one."""
    shape: tuple[Size, ...] = program.input_types()[0].shape if program.inputs else ()
    return shape[0] if len(shape) == 4 and isinstance(shape[0], int) else 1


def sizes(value: Any) -> list[int]:
    """The shape of a node's value for one image, or for the fixed batch."""
    kind = value.meta["type"]
    shape = kind.shape if isinstance(kind, TensorType) else ()
    return [size.at(1) if isinstance(size, Dim) else size for size in shape]


def volume(shape: list[int]) -> int:
    """How many elements a shape has."""
    result = 1
    for size in shape:
        result *= size
    return result


def _share(total: int, images: int) -> int:
    """One image's part, rounded up."""
    return -(-total // images)


def _weighted(program: Program, node: fx.Node, role: str, images: int) -> Iterator[Product]:
    """A linear or a convolution: outputs times the weight's elements per output channel."""
    call = WeightedCall(node)
    kernel = call.weight
    shape = sizes(kernel)
    k, groups = volume(shape[1:]), call.groups
    n = shape[0] // groups
    m = _share(volume(sizes(node)) // max(1, shape[0]), images)
    bits = (bits_of(call.data), bits_of(kernel))
    source = weight_of(node)
    if source.op != "get_attr":
        yield Product(node, path_of(node), role, m, n, k, groups, bits)
        return
    keep = kept(program, source)
    density = 1.0 if keep is None else int(keep.sum()) / max(1, keep.numel())
    packing = None if keep is None else packing_of(keep, bits[1])
    yield Product(node, path_of(node), role, m, n, k, groups, bits, str(source.target), density, packing)


def packing_of(keep: Tensor, bits: int) -> Packing | None:
    """How a `[N, K, …]` pattern of kept weights is packed at so many bits; None where there are few zeros, or no pattern."""
    return find_packing(keep, bits) if int(keep.sum()) <= (1 - MIN_ZEROS) * keep.numel() else None


def _matmul(program: Program, node: fx.Node, role: str, images: int) -> Iterator[Product]:
    left, right = operands_of(node)
    out, k = sizes(node), sizes(left)[-1]
    m, n = (out[-2], out[-1]) if len(out) > 1 else (1, out[-1] if out else 1)
    count = _share(volume(out) // max(1, m * n), images)
    yield Product(node, path_of(node), "matmul", m, n, k, count, (bits_of(left), bits_of(right)))


def _attention(program: Program, node: fx.Node, role: str, images: int) -> Iterator[Product]:
    operands = operands_of(node)
    q, k, v = map(sizes, operands)
    count = _share(volume(q[:-2]), images)
    bits = [bits_of(operand) for operand in operands]
    yield Product(node, path_of(node), "attention", q[-2], k[-2], q[-1], count, (bits[0], bits[1]))
    yield Product(node, path_of(node), "attention", q[-2], v[-1], k[-2], count, (bits[0], bits[2]))


_SHAPES: dict[Any, Callable[[Program, fx.Node, str, int], Iterator[Product]]] = {
    aten.linear.default: _weighted,
    aten.conv2d.default: _weighted,
    aten.conv1d.default: _weighted,
    aten.matmul.default: _matmul,
    dialect.attention: _attention,
    aten.scaled_dot_product_attention.default: _attention,
}


def bits_of(value: Any) -> int:
    """Bits of one operand: those of a quantizer's format (also through views of one), else its type's."""
    node = value
    while isinstance(node, fx.Node) and node.op == "call_function":
        pair = PairCall.of(node)
        if pair is not None:
            return pair.format.bits
        if node.target not in KEEPS_CODES:
            break
        node = node.args[0]
    dtype: torch.dtype = value.meta["type"].dtype
    return dtype.itemsize * 8
