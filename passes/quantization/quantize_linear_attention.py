"""Put INT8 quantizers into linear attention, and round its divisors to powers of two.

Before:
    kv = aten.matmul.default(k_transposed, v_and_ones)        # Kᵀ V, and ΣK in the last column
    y = aten.matmul.default(q, kv)                            # q, k are ReLU outputs
    out = aten.div.Tensor(y[..., :-1], y[..., -1:] + 1e-05)

After:
    kvq = vitgraph.fake_quantize.default(kv, scales, -1)      # one scale for Kᵀ V, one for ΣK
    y = aten.matmul.default(qq, kvq)                          # q, k, v: quantized where their convolutions put them out
    top = vitgraph.fake_quantize.default(y[..., :-1], top_scale, None)
    bottom = vitgraph.log2_quantize.default(y[..., -1:], bottom_scale, 'nearest', low, high)
    out = aten.div.Tensor(top, bottom + 1e-05)                # a shift; its own pair is the one that proj reads

Where heads are cut from several values laid side by side (EfficientViT's scales), each branch has scales of its own.

(Trio-ViT, arXiv 2405.03882, §IV-C.) Divisors reach over orders of magnitude and the small ones matter: on a uniform grid
they round to zero. Each of the 16 exponents of 4 bits keeps its share of precision. The paper's exponents are -6 … 9 for
its models (`highest=9`); by default the highest is that of the largest divisor seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import fx

from vitgraph.analysis.linear_attention import LinearAttention, find_linear_attentions
from vitgraph.domains import Exponent, Percent
from vitgraph.ir import dialect
from vitgraph.ir.calls import operands_of
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import LAYOUT, ROUNDS
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.quantization.qdq_pair import insert_pair
from vitgraph.quantizing.calibration import Observer, observe
from vitgraph.quantizing.scales import LEVELS, Method, Statistics, threshold

_EXPONENTS = 16
"""What 4 bits tell apart."""


@dataclass(frozen=True)
class _Place:
    """A value that gets a quantizer, and the readers that read it quantized."""

    node: fx.Node
    readers: tuple[fx.Node, ...]
    name: str


@dataclass(frozen=True)
class QuantizeLinearAttention(Pass):
    """Trio-ViT's quantizers inside attention without a softmax."""

    name: ClassVar[str] = "quantize-linear-attention"
    effect: ClassVar[Effect] = Effect.LOSSY

    method: Method = "mse"
    """How a threshold is picked: minmax, percentile, entropy or mse. A divisor's is always its largest value."""
    percentile: Percent = 99.99
    """Of magnitudes, in percent, for `method=percentile`."""
    operands: bool = True
    """Quantize q, k and v."""
    inner: bool = True
    """Quantize Kᵀ V and ΣK."""
    dividend: bool = True
    """Quantize what is divided."""
    output: bool = True
    """Quantize the quotient, unless all that read it do so."""
    divisor: Literal["log2", "uniform", "float"] = "log2"
    """Round the divisor to powers of two, to 8 bits, or not at all."""
    codes: bool = True
    """Round the divisor to 8-bit codes before its logarithm is rounded."""
    rule: Literal["nearest", "bit"] = "nearest"
    """nearest in log2, as the paper's code rounds; or up where the bit below the leading one is set, as its hardware does."""
    highest: Exponent | None = None
    """The largest of the 16 exponents; None for that of the largest divisor seen."""

    @property
    def needs_images(self) -> bool:
        """Every quantizer has a scale."""
        return True

    def run(self, program: Program, context: Context) -> None:
        """Calibrate, then insert."""
        sites = [site for site in find_linear_attentions(program) if self._takes(site, context)]
        planned = {site: self._plan(program, site) for site in sites}
        observers = list(dict.fromkeys(place.node for places in planned.values() for place in places))
        if not observers:
            return
        with context.timed("calibration"):
            seen = observe(program, [Observer(node) for node in observers], context.images, progress=context.progress)
        statistics = dict(zip(observers, seen, strict=True))
        for site in sites:
            for place in planned[site]:
                self._insert(program, place, site.path, statistics[place.node])

    def _takes(self, site: LinearAttention, context: Context) -> bool:
        if _is_quantized(site):
            context.refuse(site.path, "it is quantized already")
            return False
        return context.take(self.name, site.path)

    def _plan(self, program: Program, site: LinearAttention) -> list[_Place]:
        """Where this attention gets quantizers; parts of a product that have a scale each are cut apart."""
        places = [_Place(node, (reader,), "operand") for node, reader in site.operands() if self.operands]
        if self.inner:
            places += [
                place for part in _by_branch(program, site, site.inner) for place in _by_column(program, site, part)
            ]
        for asked, node, name in (
            (self.dividend, site.dividend, "dividend"),
            (self.divisor != "float", site.divisor, "divisor"),
        ):
            if asked:
                places += [_Place(part, tuple(part.users), name) for part in _by_branch(program, site, node)]
        if self.output and not _is_read_quantized(site.quotient):
            places.append(_Place(site.quotient, tuple(site.quotient.users), "output"))
        return places

    def _insert(self, program: Program, place: _Place, path: str, seen: Statistics) -> None:
        if place.name != "divisor":
            scale = threshold(seen, self.method, self.percentile) / LEVELS
            insert_pair(program, place.node, place.readers, f"{path}.{place.name}_scale", scale)
        elif self.divisor == "uniform":
            insert_pair(program, place.node, place.readers, f"{path}.divisor_scale", seen.largest / LEVELS)
        else:
            self._insert_log2(program, place, f"{path}.divisor_scale", seen.largest)

    def _insert_log2(self, program: Program, place: _Place, name: str, largest: float) -> None:
        highest = round(math.log2(largest)) if self.highest is None else self.highest
        after = place.node.next
        scale = program.constant_node(after, name, torch.tensor(largest / dialect.UMAX)) if self.codes else None
        arguments = (place.node, scale, self.rule, highest - _EXPONENTS + 1, highest)
        rounded = program.insert(after, dialect.log2_quantize, *arguments, path=place.node.meta.get("path", ""))
        for reader in place.readers:
            reader.replace_input_with(place.node, rounded)


def _is_quantized(site: LinearAttention) -> bool:
    queue: list[Any] = [site.dividend, site.divisor, *operands_of(site.product)]
    while queue:
        node = queue.pop()
        if node.target in ROUNDS:
            return True
        if node.target in LAYOUT:
            queue += node.all_input_nodes
    return False


def _is_read_quantized(node: fx.Node) -> bool:
    """Do all consumers, through layout operators, quantize the value?"""
    for user in node.users:
        if user.target is dialect.fake_quantize:
            continue
        if user.target not in LAYOUT or not _is_read_quantized(user):
            return False
    return bool(node.users)


def _by_branch(program: Program, site: LinearAttention, node: fx.Node) -> list[fx.Node]:
    """The value's parts of each branch: a branch computed by more convolutions has another range."""
    heads = node.meta["type"].shape[1] if site.branches > 1 else 1
    return _cut(program, node, 1, [heads * part // site.branches for part in range(site.branches + 1)])


def _by_column(program: Program, site: LinearAttention, node: fx.Node) -> list[_Place]:
    """KᵀV and ΣK, where one product gives both."""
    parts = [node]
    if site.sums is not None:
        parts = _cut(program, node, -1, [0, site.sums, node.meta["type"].shape[-1]])
    return [_Place(part, tuple(part.users), name) for part, name in zip(parts, ("inner", "sums"), strict=False)]


def _cut(program: Program, node: fx.Node, dim: int, bounds: list[int]) -> list[fx.Node]:
    """Cut a value into parts that get a scale each, and lay them side by side again for its readers."""
    if len(bounds) == 2:
        return [node]
    readers, after, path = list(node.users), node.next, node.meta.get("path", "")
    parts = [
        program.insert(after, aten.slice.Tensor, node, dim, first, last, 1, path=path)
        for first, last in pairwise(bounds)
    ]
    whole = program.insert(after, aten.cat.default, parts, dim, path=path)
    for reader in readers:
        reader.replace_input_with(node, whole)
    return parts
