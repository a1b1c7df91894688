"""What a kernel has to do, in sizes: products, attention and the zeros of a weight; `vitgraph.cost.roofline` times them."""

from __future__ import annotations

from dataclasses import dataclass

from vitgraph.ir.packing import SPARSE, Packing

BITS = {"fp32": 32, "tf32": 32, "fp16": 16, "bf16": 16, "int8": 8, "fp8": 8, "int4": 4, "fp4": 4}


@dataclass(frozen=True)
class Gemm:
    """`count` products of `[m, k]` by `[k, n]`."""

    m: int
    n: int
    k: int
    count: int = 1

    @property
    def operations(self) -> int:
        """Multiplications and additions, zeros included."""
        return 2 * self.m * self.n * self.k * self.count


@dataclass(frozen=True)
class Attention:
    """Softmax attention: `heads` (of all windows and images) times `[tokens, head_dim]` against `[keys, …]`."""

    heads: int
    tokens: int
    keys: int
    head_dim: int
    value_dim: int

    @property
    def products(self) -> tuple[Gemm, Gemm]:
        """Queries by keys, and scores by values."""
        return (
            Gemm(self.tokens, self.keys, self.head_dim, self.heads),
            Gemm(self.tokens, self.value_dim, self.keys, self.heads),
        )

    @property
    def scores(self) -> int:
        """How many numbers the softmax is taken of."""
        return self.heads * self.tokens * self.keys


@dataclass(frozen=True)
class Zeros:
    """Zeros of a weight: N:M where `packing` is given, else tiles of `side` by `side`, of which the share `kept` is left."""

    packing: Packing | None = None
    side: int = 0
    kept: float = 1.0

    @property
    def left(self) -> float:
        """The share of multiplications that is left."""
        return self.packing.kept if self.packing else self.kept

    def density(self, bits: int) -> float:
        """Bytes of the weight as it is stored over its bytes without zeros, at `bits` a number."""
        return self.packing.density(bits) if self.packing else self.kept


DENSE = Zeros()


def two_of_four(kind: str) -> Zeros:
    """Half of the weights zero, as sparse products in this type have them: 2:4, or 4:8 in pairs at 4 bits."""
    return Zeros(SPARSE[min(16, BITS[kind])])
