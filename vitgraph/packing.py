"""How many bytes a weight with N:M zeros takes: the values that are kept, and where they stood.

Of each M groups of `together` neighbouring weights along K, N are kept, each with an index of log2(M) bits. That is
what the sparse instructions of sm_80 read (CUTLASS `arch/mma_sparse_sm80.h`): 2:4 at 16 bits takes 36 bits of 64, at
8 bits 20 of 32; at 4 bits the pattern is 4:8 in aligned pairs, 20 of 32 again. Storage in GPUSQ-ViT (arXiv 2305.10727).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

GROUPS = (4, 8, 16)
"""The M that are looked for in a weight."""


@dataclass(frozen=True)
class Packing:
    """N of each M; `together` weights are kept or dropped as one."""

    n: int
    m: int
    together: int = 1

    @property
    def kept(self) -> float:
        """The share of weights that is kept."""
        return self.n / self.m

    def density(self, bits: int) -> float:
        """Packed bytes over dense bytes of the same type, indices included; 1 for 32 bits, which no kernel packs."""
        if bits >= 32:
            return 1.0
        return self.kept * (1 + (self.m - 1).bit_length() / (bits * self.together))

    def __str__(self) -> str:
        pairs = " in pairs" if self.together == 2 else ""
        return f"{self.n * self.together}:{self.m * self.together}{pairs}"


SPARSE = {16: Packing(2, 4), 8: Packing(2, 4), 4: Packing(2, 4, together=2)}
"""The pattern that sparse tensor cores multiply, by the bits of a weight."""


def find_packing(keep: Tensor, bits: int) -> Packing | None:
    """The tightest packing that every row of a `[N, …]` pattern of kept weights obeys; None where none saves bytes.

    At 32 bits, where none does, the pattern is still told: it is what a narrower type would be packed by.
    """
    rows = keep.reshape(keep.shape[0], -1)
    together = 2 if bits == 4 else 1
    found = [_fit(rows, size, together) for size in GROUPS if rows.shape[1] % (size * together) == 0]
    narrow = min(bits, 16)
    saving = [each for each in found if each.density(narrow) < 1]
    return min(saving, key=lambda each: each.density(narrow), default=None)


def _fit(rows: Tensor, size: int, together: int) -> Packing:
    """The fewest of `size` that hold every group of the rows."""
    groups = rows.reshape(rows.shape[0], -1, size, together).any(-1)
    return Packing(max(1, int(groups.sum(-1).max())), size, together)
