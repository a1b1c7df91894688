"""What is left to compute of a linear, or of the linears and the attention around units, when a share of it is gone.

`flops` counts multiply-accumulates, as vitgraph/cost/counts.py does; `latency` and `energy` are estimates of vitgraph/cost/roofline.py,
kernel by kernel: of tiles as a block-sparse kernel would skip them, of units as smaller products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from torch import fx

from vitgraph.cost.fusion import find_kernels
from vitgraph.cost.kernel import Kernel, refusal
from vitgraph.cost.products import Product, find_products
from vitgraph.cost.roofline import Estimate, Roofline, roofline
from vitgraph.cost.workload import BITS, DENSE, Attention, Gemm, Zeros
from vitgraph.errors import InputError
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.pruning.prunable_units import PrunableUnits
from vitgraph.targets.target import Target

Metric = Literal["flops", "latency", "energy"]
Kind = Literal["fp16", "bf16", "int8", "fp8", "tf32"]
CostOfShare = Callable[[float], float]
"""From the share that stays to what is left to compute."""


@dataclass(frozen=True)
class Meter:
    """Costs in multiply-accumulates, milliseconds or millijoules for a batch."""

    products: dict[fx.Node, list[Product]]
    kernels: dict[fx.Node, Kernel]
    others: tuple[Kernel, ...]
    line: Roofline | None
    metric: Metric
    batch: int

    def total(self) -> float:
        """Of the whole program as it is."""
        if self.line is None:
            return sum(product.macs for some in self.products.values() for product in some)
        return sum(self._value(each.estimate(self.line, self.batch)) for each in (*self.kernels.values(), *self.others))

    def of_tiles(self, node: fx.Node, side: int) -> CostOfShare:
        """Of a linear when this share of its weight stays, in tiles whose shorter side is `side`."""
        macs, kernel = sum(product.macs for product in self.products[node]), self.kernels[node]

        @cache
        def cost(share: float) -> float:
            if self.line is None:
                return macs * share
            return min(self._estimate([kernel], zeros) for zeros in (DENSE, Zeros(side=side, kept=share)))

        return cost

    def of_units(self, units: PrunableUnits) -> CostOfShare:
        """Of all that works on units when this share of them stays."""
        around = [units.reader, *units.writers, *([] if units.attention is None else [units.attention])]
        macs = sum(product.macs for node in around for product in self.products[node])

        @cache
        def cost(share: float) -> float:
            kernels = [self._narrowed(node, units, share) for node in around] if self.line else []
            return self._estimate(kernels) if self.line else macs * share

        return cost

    def _narrowed(self, node: fx.Node, units: PrunableUnits, share: float) -> Kernel:
        """The kernel of a node with that share of the units."""
        kernel = self.kernels[node]
        if isinstance(kernel.work, Attention):
            heads = round(kernel.work.heads * share)
            return replace(kernel, work=replace(kernel.work, heads=heads), moved=kernel.moved * share)
        assert isinstance(kernel.work, Gemm)
        n, k = (1.0, share) if node is units.reader else (share, 1.0)
        work = replace(kernel.work, n=round(kernel.work.n * n), k=round(kernel.work.k * k))
        fewer = kernel.work.n - work.n + kernel.work.k - work.k
        moved = kernel.moved - work.m * work.count * fewer * BITS[kernel.kind] / 8
        return replace(kernel, work=work, moved=moved, weights=round(kernel.weights * share))

    def _estimate(self, kernels: list[Kernel], zeros: Zeros | None = None) -> float:
        assert self.line is not None
        found = [kernel.estimate(self.line, self.batch, zeros) for kernel in kernels]
        return sum(map(self._value, found))

    def _value(self, estimate: Estimate) -> float:
        if self.metric == "latency":
            return estimate.ms
        assert estimate.mj is not None, "`estimator` refuses a target without a power"
        return estimate.mj


def find_meter(program: Program, context: Context, by: Metric, kind: Kind, batch: int) -> Meter:
    """The meter of a program; `InputError` where `by` asks for an estimate that the context's target has none of."""
    products = find_products(program)
    by_node = dict[fx.Node, list[Product]]()
    for product in products:
        by_node.setdefault(product.node, []).append(product)
    if by == "flops":
        return Meter(by_node, dict.fromkeys(by_node, _NONE), (), None, by, batch)
    kernels = [kernel.in_type(kind) for kernel in find_kernels(program, products)]
    own = [kernel for kernel in kernels if kernel.role != "moves"]  # one for each node with products, in graph order
    others = tuple(kernel for kernel in kernels if kernel.role == "moves")
    line = _line(context, by, own)
    return Meter(by_node, dict(zip(by_node, own, strict=True)), others, line, by, batch)


_NONE = Kernel("", "", "fp32", None, 0.0)


def estimator(target: Target, by: Metric) -> Roofline:
    """What estimates times or energies of a target; `InputError` where nothing does."""
    line = roofline(target)
    if isinstance(line, str):
        raise _no_estimate(target, by, line)
    if by == "energy" and target.power_w is None:
        raise _no_estimate(target, by, "its power is not published")
    return line


def _line(context: Context, by: Metric, kernels: list[Kernel]) -> Roofline:
    assert context.target is not None, "BlockPrune.check asks for one"
    line = estimator(context.target, by)
    why = refusal(kernels, line)
    if why is not None:
        raise _no_estimate(context.target, by, why)
    return line


def _no_estimate(target: Target, by: Metric, why: str) -> InputError:
    return InputError(f"metric={by}: no estimate for {target.name}: {why}; take another target, or metric=flops")
