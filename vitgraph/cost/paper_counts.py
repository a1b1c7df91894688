"""How the papers count, beside the honest count, and what a model would cost with every block linear sparse.

- ELSA (arXiv 2409.09708) calls multiply-accumulates FLOPs, adds 2·L·C for the norms of a block, leaves out a plain
  ViT's head and scales the four linears of a block by N/M; patch merging stays dense.
- LPViT (arXiv 2407.02068) sums non-zero weights times output positions over every linear and convolution, and the
  biases; products of attention are not counted. (Its code takes a head's classes for positions and one Swin window
  for all: not repeated here.)
- GPUSQ-ViT (arXiv 2305.10727) divides FP32 bytes by packed bytes as if every parameter were packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.cost.products import Product, sizes, volume
from vitgraph.ir.calls import WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.packing import SPARSE, Packing
from vitgraph.ir.program import Program

PRUNED_ROLES = tuple(role for role in BLOCK_ROLES if role != "merge")
"""What ELSA gives a level; the merging of patches is none of it."""
UNIFORM = (Packing(2, 4), Packing(1, 4))


@dataclass(frozen=True)
class Uniform:
    """Multiply-accumulates for one image with every block linear (patch merging dense) at one N:M."""

    pattern: Packing
    macs: int
    ratio: float
    """Dense over this."""


@dataclass(frozen=True)
class Packed:
    """What packing would come to at one width, as ratios to FP32."""

    bits: int
    pattern: Packing
    every_parameter: float
    """Size, as GPUSQ-ViT counts: every parameter quantized and packed."""
    block_linears: float
    """Size with the block linears (patch merging too) quantized and packed, and the rest in FP16: what can be stored."""
    bit_operations: float
    """Bit operations with every product at this width and the linears of a block sparse."""
    bit_operations_rest_fp32: float
    """The same with everything but these linears in FP32."""


def uniform(products: Sequence[Product]) -> tuple[Uniform, ...]:
    """What every block linear at 2:4, and at 1:4, would come to."""
    total = sum(product.macs for product in products)
    pruned = sum(product.macs for product in products if product.role in PRUNED_ROLES)
    found = [(pattern, total - pruned * (1 - pattern.kept)) for pattern in UNIFORM]
    return tuple(Uniform(pattern, round(macs), total / macs) for pattern, macs in found if macs)


def packed(program: Program, products: Sequence[Product], parameters: int) -> tuple[Packed, ...]:
    """What packing block linears at 8 bits (2:4) and at 4 bits (4:8 in pairs) would come to."""
    linears = {product.weight for product in products if product.role in BLOCK_ROLES and product.weight is not None}
    weights = sum(program.tensor(name).numel() for name in linears)
    return tuple(_packed(products, parameters, weights, bits) for bits in (8, 4)) if products else ()


def _packed(products: Sequence[Product], parameters: int, weights: int, bits: int) -> Packed:
    pattern = SPARSE[bits]
    per_weight = bits / 8 * pattern.density(bits)
    total = sum(product.macs for product in products)
    pruned = sum(product.macs for product in products if product.role in PRUNED_ROLES)
    kept, rest = pruned * pattern.kept, total - pruned
    return Packed(
        bits,
        pattern,
        every_parameter=4 / per_weight,
        block_linears=4 * parameters / (weights * per_weight + 2 * (parameters - weights)),
        bit_operations=total * 32 * 32 / ((kept + rest) * bits * bits),
        bit_operations_rest_fp32=total * 32 * 32 / (kept * bits * bits + rest * 32 * 32),
    )


def elsa_flops(program: Program, products: Sequence[Product]) -> int:
    """ELSA's FLOPs for one image, with the zeros that the weights have."""
    merges = any(product.role == "merge" for product in products)
    counted = [product for product in products if merges or product.role != "head"]
    norms = program.calls(aten.layer_norm.default)
    in_blocks = norms if merges else norms[:-1]  # a plain ViT's last norm stands ahead of its head
    return sum(product.nonzero_macs for product in counted) + sum(volume(sizes(node)) for node in in_blocks)


def lpvit_flops(products: Sequence[Product]) -> int:
    """LPViT's FLOPs for one image: non-zero weights times positions, and one for each output that has a bias."""
    weighted = [product for product in products if product.weight is not None]
    return sum(product.nonzero_macs + _biases(product) for product in weighted)


def _biases(product: Product) -> int:
    biased = WeightedCall(product.node).bias is not None
    return product.m * product.n * product.count if biased else 0


def counted_by(program: Program, products: Sequence[Product]) -> dict[str, Any]:
    """Report key `cost.counted_by`: each paper's number for this program, with what it counts."""
    return {
        "elsa": {
            "flops": elsa_flops(program, products),
            "counts": "multiply-accumulates and norms; a plain ViT's head left out",
        },
        "lpvit": {
            "flops": lpvit_flops(products),
            "counts": "non-zero weights times positions, and biases; attention left out",
        },
    }
