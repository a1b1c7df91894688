"""How many bytes a weight with N:M zeros takes: the values that are kept, and where they stood.

Of each M groups of `group_size` neighbouring weights along K, N are kept, each with an index of log2(M) bits. That is
what the sparse instructions of sm_80 read (CUTLASS `arch/mma_sparse_sm80.h`): 2:4 at 16 bits takes 36 bits of 64, at
8 bits 20 of 32; at 4 bits the pattern is 4:8 in aligned pairs, 20 of 32 again. Storage in GPUSQ-ViT (arXiv 2305.10727).

In V:N:M (arXiv 2410.16135) V rows of a group share four columns of the M, and each row keeps N of these four: what is kept
is stored as N:4 on gathered columns, and beside it, once for V rows, which columns they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import, and targets are listed without it
    from torch import Tensor

GROUPS = (4, 8, 16)
"""The M that are looked for in a weight."""
GATHERED = 4
"""Columns of each M that the rows of a tile share in V:N:M: what sparse kernels take as one group."""
TILES = (128, 64, 32, 16)
"""The V that are looked for."""


@dataclass(frozen=True)
class Packing:
    """N of each M; `group_size` weights are kept or dropped as one."""

    n: int
    m: int
    group_size: int = 1
    v: int = 1
    """So many rows share the columns that they keep weights in (V:N:M); 1: each row has its own."""

    @property
    def width(self) -> int:
        """Neighbours along K that are one group."""
        return self.m * self.group_size

    @property
    def kept(self) -> float:
        """The share of weights that is kept."""
        return self.n / self.m

    def density(self, bits: int) -> float:
        """Packed bytes over dense bytes of the same type, indices included; 1 for 32 bits, which no kernel packs."""
        if bits >= 32:
            return 1.0
        chosen = (self.m - 1).bit_length()
        if self.v == 1:
            return self.kept * (1 + chosen / (bits * self.group_size))
        columns = GATHERED * chosen / (self.v * self.width * bits)
        return self.kept * (1 + (GATHERED - 1).bit_length() / (bits * self.group_size)) + columns

    def holds(self, keep: Tensor) -> bool:
        """Whether a `[N, K, …]` pattern of kept weights obeys: at most n of each m, in v rows in four columns of them."""
        if keep.shape[1] % self.width or keep.shape[0] % self.v:
            return False
        units = keep.movedim(1, -1).reshape(keep.shape[0], -1, self.m, self.group_size).any(-1)
        if bool((units.sum(-1) > self.n).any()):
            return False
        return self.v == 1 or not bool((_shared(units, self.v) > GATHERED).any())

    def __str__(self) -> str:
        pairs = " in pairs" if self.group_size == 2 else ""
        rows = f"{self.v}:" if self.v > 1 else ""
        return f"{rows}{self.n * self.group_size}:{self.m * self.group_size}{pairs}"


def _shared(units: Tensor, v: int) -> Tensor:
    """How many columns of each group v rows keep something in: `[N / v, groups]` of `[N, groups, m]`."""
    return units.reshape(-1, v, *units.shape[1:]).any(1).sum(-1)


SPARSE = {16: Packing(2, 4), 8: Packing(2, 4), 4: Packing(2, 4, group_size=2)}
"""The pattern that sparse tensor cores multiply, by the bits of a weight."""


def find_packing(keep: Tensor, bits: int) -> Packing | None:
    """The tightest packing that every row of a `[N, …]` pattern of kept weights obeys; None where none saves bytes.

    At 32 bits, where none does, the pattern is still told: it is what a narrower type would be packed by.
    """
    rows = keep.reshape(keep.shape[0], -1)
    group_size = 2 if bits == 4 else 1
    sizes = [size for size in GROUPS if rows.shape[1] % (size * group_size) == 0]
    found = [_fit(rows, size, group_size) for size in sizes]
    tiled = [_fit_tiles(rows, size, group_size) for size in range(GATHERED + 1, max(GROUPS) + 1)]
    narrow = min(bits, 16)
    saving = [each for each in (*found, *tiled) if each is not None and each.density(narrow) < 1]
    return min(saving, key=lambda each: each.density(narrow), default=None)


def _fit(rows: Tensor, size: int, group_size: int) -> Packing:
    """The fewest of `size` that hold every group of the rows."""
    groups = rows.reshape(rows.shape[0], -1, size, group_size).any(-1)
    return Packing(max(1, int(groups.sum(-1).max())), size, group_size)


def _fit_tiles(rows: Tensor, size: int, group_size: int) -> Packing | None:
    """The same with the most rows that share four columns of each group; None where no sixteen do."""
    few = TILES[-1]
    if not Packing(GATHERED - 1, size, group_size, few).holds(rows[:few]):  # nearly always settles it
        return None
    fitting = _fit(rows, size, group_size)
    tiles = (replace(fitting, v=v) for v in TILES if fitting.n < GATHERED)
    return next((each for each in tiles if each.holds(rows)), None)
