"""A kernel of a program or of a plain encoder: what it works on and moves, and what it would take on a target.

A pass that wants to know whether a mask buys time asks twice:

    kernel.estimate(line)                     as it is, with the zeros its weight has
    kernel.estimate(line, zeros=DENSE)        the same without them
    kernel.in_type("int8").estimate(line)     every value in another type
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vitgraph.cost.roofline import BOUNDS, Estimate, Roofline
from vitgraph.cost.workload import BITS, DENSE, Attention, Gemm, Zeros


@dataclass(frozen=True)
class Kernel:
    """One kernel, sizes and bytes for one image; `work` is None where it only moves values."""

    path: str
    role: str
    kind: str
    work: Gemm | Attention | None
    moved: float
    """Bytes of values read and written, the weight's not among them."""
    weights: int = 0
    """How many numbers its weight has; read once, whatever the batch."""
    weight_bits: int = 0
    zeros: Zeros = DENSE

    def estimate(self, line: Roofline, batch: int = 1, zeros: Zeros | None = None) -> Estimate:
        """Its time and energy for a batch; with `zeros` in place of its own."""
        moved = batch * self.moved
        if isinstance(self.work, Attention):
            return self._attention(replace(self.work, heads=self.work.heads * batch), line, moved)
        skipped = line.usable(self.kind, self.zeros if zeros is None else zeros)
        moved += self.weights * self.weight_bits / 8 * skipped.density(self.weight_bits)
        if self.work is None:
            return line.move(moved)
        grows = {"m": self.work.m * batch} if self.weights else {"count": self.work.count * batch}
        return line.gemm(replace(self.work, **grows), self.kind, moved, skipped)

    def _attention(self, work: Attention, line: Roofline, moved: float) -> Estimate:
        """Fused where the target has a kernel for it; of 8 bits in 16 where it has only that."""
        kinds = (self.kind, "fp16") if BITS[self.kind] <= 8 else (self.kind,)
        longest, queries = max(work.tokens, work.keys), work.tokens
        for kind in kinds:
            if line.target.attention_refusal(kind, work.head_dim, longest, work.value_dim, queries=queries) is None:
                return line.fused_attention(work, kind, moved)
        return total(line.unfused_attention(work, self.kind, moved))

    def built(self, line: Roofline, batch: int = 1) -> Estimate:
        """As a builder makes it that times both: dense where zeros buy nothing."""
        return min(self.estimate(line, batch), self.estimate(line, batch, DENSE), key=lambda each: each.ms)

    def in_type(self, kind: str, zeros: Zeros | None = None) -> Kernel:
        """The same with every value and the weight in `kind`, and other zeros in the weight where they are given."""
        moved = self.moved * BITS[kind] / BITS[self.kind]
        kept = self.zeros if zeros is None else zeros
        return replace(self, kind=kind, moved=moved, weight_bits=BITS[kind] if self.weights else 0, zeros=kept)


def linear(role: str, rows: int, n: int, k: int, kind: str, zeros: Zeros = DENSE) -> Kernel:
    """A linear of K inputs and N outputs on so many rows, all in one type."""
    return Kernel(role, role, kind, Gemm(rows, n, k), rows * (k + n) * BITS[kind] / 8, n * k, BITS[kind], zeros)


def total(parts: Iterable[Estimate]) -> Estimate:
    """All of them one after another; bound by what most of the time goes to."""
    found = list(parts)
    spent = dict.fromkeys(BOUNDS, 0.0)
    for part in found:
        spent[part.bound] += part.ms
    energy = [part.mj for part in found if part.mj is not None]
    return Estimate(
        sum(part.ms for part in found),
        sum(energy) if len(energy) == len(found) else None,
        max(spent, key=lambda bound: spent[bound]),
    )


def refusal(kernels: Sequence[Kernel], line: Roofline) -> str | None:
    """Why a target's estimate of these kernels cannot be given, or None where it can."""
    kinds = dict.fromkeys(kernel.kind for kernel in kernels if kernel.work is not None)
    return next((why for kind in kinds if (why := line.refusal(kind)) is not None), None)
