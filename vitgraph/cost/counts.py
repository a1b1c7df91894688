"""What a program costs, counted: parameters, multiply-accumulates, bit operations, stored bytes.

These are counts, not predictions of time (`vitgraph.cost.roofline` predicts), and they are honest ones: attention, head and
patch embedding are in, zeros of the bias are not, and what cannot be packed is not counted as packed. How the papers
count is in `vitgraph.cost.paper_counts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from vitgraph.cost.products import Product, find_products
from vitgraph.ir import dialect
from vitgraph.ir.calls import DequantizeCall
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import RemovedFinding, findings_of


@dataclass(frozen=True)
class Cost:
    """Counts for one image; report key `cost`."""

    parameters: int
    nonzero_parameters: int
    macs: int
    nonzero_macs: int
    bit_operations: int
    dense_fp32_bytes: int
    stored_bytes: int
    """Weights and constants, N:M zeros packed with their indices where the type has such a packing."""
    unpacked_bytes: int
    """The same without packing."""

    def to_json(self) -> dict[str, Any]:
        """The report's form, without estimates."""
        ratio = round(self.dense_fp32_bytes / self.stored_bytes, 4) if self.stored_bytes else None
        weights = {
            "dense_fp32": self.dense_fp32_bytes,
            "stored": self.stored_bytes,
            "unpacked": self.unpacked_bytes,
            "ratio": ratio,
        }
        counts = {name: value for name, value in asdict(self).items() if not name.endswith("_bytes")}
        return {**counts, "weight_bytes": weights}


def count(program: Program, weights: Program | None = None, products: Sequence[Product] | None = None) -> Cost:
    """Count a program; `weights` is the program before compilation, whose FP32 weights are the dense size.

    `products` are the program's, where they are at hand already.
    """
    found = find_products(program) if products is None else products
    trained = count_parameters(program, found) if weights is None else count_parameters(weights)
    parameters = trained if weights is None else trained - removed_parameters(program)
    held = _held_bytes(program)
    weighted = {product.weight: product for product in found if product.weight is not None}.values()
    return Cost(
        parameters=parameters,
        nonzero_parameters=parameters - sum(_zeros(program, product) for product in weighted),
        macs=sum(product.macs for product in found),
        nonzero_macs=sum(product.nonzero_macs for product in found),
        bit_operations=sum(product.bit_operations for product in found),
        dense_fp32_bytes=4 * trained,
        stored_bytes=sum(held.values()) - sum(_saved(program, product, held) for product in weighted),
        unpacked_bytes=sum(held.values()),
    )


def count_parameters(program: Program, products: Sequence[Product] = ()) -> int:
    """How many trained numbers the graph reads; the constant that a product multiplies by was trained once."""
    weights = {product.weight for product in products}
    held = program.tensors().items()
    return sum(t.numel() for name, t in held if isinstance(t, torch.nn.Parameter) or name in weights)


def removed_parameters(program: Program) -> int:
    """How many trained numbers left with hidden units and heads that were empty: what `remove-pruned` says of itself."""
    return sum(each.parameters for each in findings_of(program.ledger, RemovedFinding))


def _zeros(program: Program, product: Product) -> int:
    return round(program.tensor(str(product.weight)).numel() * (1 - product.density))


def _held_bytes(program: Program) -> dict[str, int]:
    """The bytes of every constant, but masks, as the ONNX file has them: INT4 codes two to a byte."""
    pairs = map(DequantizeCall, program.calls(dialect.dequantize))
    int4 = {pair.codes.target for pair in pairs if pair.format.name == "int4"}
    sizes = {name: t.numel() * t.element_size() for name, t in program.tensors().items() if t.dtype != torch.bool}
    return {name: -(-size // 2) if name in int4 else size for name, size in sizes.items()}


def _saved(program: Program, product: Product, held: dict[str, int]) -> int:
    """The bytes that packing takes off a weight as it is held; none where its type has no packing."""
    if product.packing is None:
        return 0
    name = str(product.weight)
    density = product.packing.density(8 * held[name] // program.tensor(name).numel())
    return round(held[name] * (1 - density))
