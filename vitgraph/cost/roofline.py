"""How long a kernel would take on a target, and how much energy: estimates from published rates, never measurements.

    time = launch + max(arithmetic, memory)

Arithmetic of a product goes by waves: its output is cut into tiles, one to a multiprocessor at a time, so that a last
tile of a few rows, and a last wave of a few tiles, cost as much as full ones. A wave takes what it needs to fill, and
then as long as a tile's arithmetic or as its operands' way from the second-level cache. The best of a few tile sizes is
taken, as a builder's timing would. Memory is what the kernel must read and write once, though caches may hold some of
it from the kernel before. (Roofline: Williams, Waterman and Patterson, CACM 2009.)

Peaks are not reached: `vitgraph.cost.shares` says what share of them is, and `vitgraph.cost.published` how far that is from published
figures. Energy has next to none to be held against: it spreads a target's power over its peak rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil

from vitgraph.cost.shares import FITTED, Shares
from vitgraph.cost.workload import BITS, DENSE, Attention, Gemm, Zeros
from vitgraph.ir.packing import SPARSE, Packing
from vitgraph.targets.target import Chip, Target

TILES = ((64, 64), (64, 128), (128, 64), (128, 128), (128, 256), (256, 128))
"""Rows and columns of the output that one multiprocessor works on at a time."""
SPLITS = (1, 2, 4, 8)
"""Into how many parts K may be cut, where there are fewer tiles than multiprocessors."""
K_STEP = 32
SOFTMAX_OPERATIONS = 10
"""FP32 operations for each score: scale, bias, maximum, difference, exponential (about four), sum, product."""
QUERIES = 64
"""Of one head, how many queries a multiprocessor takes at a time."""
IDLE_SHARE = 0.11
"""Of a target's power, what is drawn without work: 74 and 80 W of an H200's 700, in two published measurements."""
WIDER = {
    "int4": ("int8", "fp16"), "fp4": ("fp8", "int8", "fp16"), "fp8": ("fp16",), "int8": ("fp16", "fp32"),
    "bf16": ("fp16", "fp32"), "fp16": ("fp32",), "tf32": ("fp32",), "fp32": (),
}  # fmt: skip
"""In which types a product runs where a target has no units for its own, the first that there is."""
BOUNDS: tuple[str, ...] = ("arithmetic", "memory", "launch")
"""What a kernel's time goes to."""


@dataclass(frozen=True)
class Estimate:
    """Milliseconds and millijoules (None where the target's power is not known); `bound` is one of `BOUNDS`."""

    ms: float
    mj: float | None
    bound: str


@dataclass(frozen=True)
class Roofline:
    """The estimates of one target; `roofline` makes it."""

    target: Target
    chip: Chip
    bandwidth: float
    """GB/s."""
    shares: Shares = FITTED

    def gemm(self, gemm: Gemm, kind: str, moved: float, zeros: Zeros = DENSE) -> Estimate:
        """Products computed in `kind` that move `moved` bytes, by a kernel that skips what it can of `zeros`."""
        skipped = self.usable(kind, zeros)
        reached = self._reached(kind, skipped)
        busy = min(self._waves(gemm, kind, skipped, tile, split, reached) for tile, split in product(TILES, SPLITS))
        launch = self.shares.launch_us + (self.shares.sparse_launch_us if skipped != DENSE else 0)
        return self._estimate(launch, busy, moved, kind, gemm.operations * skipped.left)

    def fused_attention(self, attention: Attention, kind: str, moved: float) -> Estimate:
        """One kernel that keeps the scores to itself."""
        parts = attention.products
        busy = sum(min(self._waves(part, kind, DENSE, tile, 1, self.shares.tensor) for tile in TILES) for part in parts)
        return self._estimate(
            self.shares.launch_us, busy + self._softmax(attention), moved, kind, sum(part.operations for part in parts)
        )

    def unfused_attention(self, attention: Attention, kind: str, moved: float) -> tuple[Estimate, ...]:
        """Three kernels; each of the last two reads scores from memory that the one before wrote."""
        first, second = attention.products
        scores = attention.scores * BITS[kind] / 8
        softmax = self._estimate(self.shares.launch_us, self._softmax(attention), 2 * scores, kind, 0)
        return self.gemm(first, kind, moved / 2 + scores), softmax, self.gemm(second, kind, moved / 2 + scores)

    def move(self, moved: float) -> Estimate:
        """A kernel that is bound by the bytes it reads and writes: a norm, a copy, a depthwise convolution."""
        return self._estimate(self.shares.launch_us, 0.0, moved, "fp32", 0)

    def usable(self, kind: str, zeros: Zeros) -> Zeros:
        """The zeros that a kernel of this target can skip: N:M it has units for, 2:4 of a sparser pattern, tiles; else none."""
        pattern = zeros.packing
        if pattern is None:
            return zeros if zeros.side and zeros.kept < 1 else DENSE
        rate, rule = self.target.rates.get(self.runs_in(kind)), self.target.sparse
        if rate is None or rate.sparse is None or rule is None:
            return DENSE
        if pattern.group_size != SPARSE[min(16, BITS[kind])].group_size:
            return DENSE
        fitting = [Packing(n, m, pattern.group_size) for n, m in rule.patterns if m == pattern.m and n >= pattern.n]
        return Zeros(min(fitting, key=lambda each: each.n)) if fitting else DENSE

    def runs_in(self, kind: str) -> str:
        """The type itself, or the first wider one that the target has units for."""
        return next((name for name in (kind, *WIDER[kind]) if self._rate_of(name) is not None), "fp32")

    def refusal(self, kind: str) -> str | None:
        """Why products in `kind` cannot be estimated, or None where they can."""
        if kind in self.target.unknown:
            return f"{kind}: {self.target.unknown[kind]}"
        if self.runs_in(kind) == "fp32" and not self.target.supports_matmul("fp32"):
            return f"{kind}: the builder has no product in fp32 for {self.target.name}"
        return None

    def time_left(self, zeros: Zeros) -> float:
        """The arithmetic's time with these zeros over its time without."""
        if zeros.packing is not None:
            return 1 - (1 - zeros.left) * self.shares.sparse
        return min(1.0, zeros.kept * (1 + self.shares.tile / zeros.side)) if zeros.side else 1.0

    def _rate_of(self, kind: str) -> float | None:
        rate = self.target.rates.get(kind)
        return None if rate is None else rate.dense

    def _rate(self, kind: str) -> float:
        """Peak dense operations a microsecond."""
        rate = self._rate_of(self.runs_in(kind))
        assert rate is not None, "`roofline` makes none without a rate of FP32"
        return rate * 1e6

    def _reached(self, kind: str, zeros: Zeros) -> float:
        """What share of the tensor cores' rate a product reaches: as measured for dense ones, where the target's file says so."""
        rate = self.target.rates.get(self.runs_in(kind))
        return self.shares.tensor if rate is None or rate.reached is None or zeros != DENSE else rate.reached

    def _waves(self, gemm: Gemm, kind: str, zeros: Zeros, tile: tuple[int, int], split: int, reached: float) -> float:
        """Microseconds: so many waves, each as long as its arithmetic or its way from the cache."""
        tiles = ceil(gemm.m / tile[0]) * ceil(gemm.n / tile[1]) * gemm.count * split
        depth = ceil(gemm.k / split / K_STEP) * K_STEP
        share = self.shares.simt if self.runs_in(kind) == "fp32" else reached
        rate = self._rate(kind) * share / self.chip.multiprocessors
        arithmetic = 2 * tile[0] * tile[1] * depth / rate * self.time_left(zeros)
        sums = 0.0 if split == 1 else 8 * gemm.m * gemm.n * gemm.count * split / (self.bandwidth * 1e3)
        waves = ceil(tiles / self.chip.multiprocessors)
        return waves * (self.shares.wave_us + max(arithmetic, self._fetch(kind, zeros, tile, depth))) + sums

    def _fetch(self, kind: str, zeros: Zeros, tile: tuple[int, int], depth: int) -> float:
        """Microseconds that a tile's operands take from the second-level cache; 0 where its rate is not published."""
        if self.chip.l2_gb_s is None:
            return 0.0
        bits = BITS[kind]
        fetched = (tile[0] + tile[1] * zeros.density(bits)) * depth * bits / 8
        return fetched * self.chip.multiprocessors / (self.chip.l2_gb_s * 1e3)

    def _softmax(self, attention: Attention) -> float:
        """Microseconds: a block of queries of one head goes to one multiprocessor, so that few heads leave others idle."""
        blocks = attention.heads * ceil(attention.tokens / QUERIES)
        waves = ceil(blocks / self.chip.multiprocessors)
        operations = SOFTMAX_OPERATIONS * min(QUERIES, attention.tokens) * attention.keys
        return waves * operations * self.chip.multiprocessors / (self._rate("fp32") * self.shares.simt)

    def _estimate(self, launch: float, busy: float, moved: float, kind: str, operations: float) -> Estimate:
        """Out of microseconds before the start, microseconds of arithmetic and bytes through memory."""
        memory = moved / (self.bandwidth * 1e3 * self.shares.bandwidth)
        us = launch + max(busy, memory)
        bound = "launch" if launch > max(busy, memory) else "arithmetic" if busy >= memory else "memory"
        return Estimate(us / 1e3, self._energy(us, moved, operations / self._rate(kind)), bound)

    def _energy(self, us: float, moved: float, at_peak: float) -> float | None:
        """Millijoules: idle power all the time, memory's by the bit, and the rest while arithmetic runs at its peak."""
        power = self.target.power_w
        if power is None:
            return None
        per_byte = 8e-12 * (self.chip.memory_pj_per_bit or 0.0)
        arithmetic = power * (1 - IDLE_SHARE) - per_byte * self.bandwidth * 1e9
        return 1e3 * (power * IDLE_SHARE * us * 1e-6 + per_byte * moved + arithmetic * at_peak * 1e-6)


def roofline(target: Target, shares: Shares = FITTED) -> Roofline | str:
    """The estimates of a target, or why there are none: what they need is not published, as of a CPU."""
    fp32 = target.rates.get("fp32")
    if fp32 is None or fp32.dense is None:
        return target.unknown.get("rates", "no rate in fp32 is published")
    if target.chip is None or target.bandwidth_gb_s is None:
        return target.unknown.get("bandwidth_gb_s", "the number of multiprocessors or the bandwidth is not published")
    return Roofline(target, target.chip, target.bandwidth_gb_s, shares)
