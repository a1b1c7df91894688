"""Second moments of what linears read, while the weights of those ahead of them change.

The images go through the program part by part (vitgraph/analysis/segments.py), once as the linears are now and, where it is
asked for, once as the program came. Kept at once: for each image one value between two parts, or two. Every image counts
once and is summed by itself, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from vitgraph.analysis.segments import Segment, advance, run_segment
from vitgraph.images.calibration_data import Images
from vitgraph.ir import dialect
from vitgraph.ir.calls import AttentionCall
from vitgraph.ir.program import Program
from vitgraph.quantizing.calibration import all_units
from vitgraph.runtime.activation_store import ActivationStore

CHUNK = 8
"""Images that run together."""
NewWeights = Mapping[fx.Node, Tensor]
"""What linears multiply by now, `[out, K]` each."""


@dataclass(frozen=True)
class Moments:
    """Sums over all rows of what a linear reads, `[K, K]` each, float64: x in the program as it came, x̂ as it is now."""

    now: Tensor
    """Σ x̂ x̂ᵀ."""
    cross: Tensor
    """Σ x x̂ᵀ."""
    dense: Tensor
    """Σ x xᵀ."""


class ImageStream:
    """The images on their way through the program; with `beside` through the program as it came, too, else x is x̂."""

    def __init__(self, program: Program, images: Images, beside: bool) -> None:
        self._program, self._images = program, len(images)
        self._now = all_units(program, images)
        self._dense = self._now if beside else None
        self._per_unit = self._now.shape[0]
        self._chunk = max(1, CHUNK // self._per_unit)

    def moments(self, segment: Segment, source: fx.Node, changed: NewWeights) -> Moments:
        """Of the value `source` in this segment, over the images; not over those that fill a batch up."""
        nodes = segment.nodes[: segment.nodes.index(source) + 1] if source in segment.nodes else ()
        part = Segment(segment.start, source, nodes)
        if self._dense is None:
            now = _sums((x, x) for x in self._rows(part, self._now, changed))
            return Moments(now[0], now[0], now[0])
        pairs = zip(self._rows(part, self._now, changed), self._rows(part, self._dense, {}), strict=True)
        return Moments(*_sums((now, now, dense, now, dense, dense) for now, dense in pairs))

    def advance(self, segment: Segment, changed: NewWeights) -> None:
        """On to the segment's end."""
        now, dense = self._now, self._dense
        if dense is not None:
            overrides = _overrides(segment, {})
            self._dense = advance(self._program, segment, dense, overrides, self._chunk, keep=dense is now)
        self._now = advance(self._program, segment, now, _overrides(segment, changed), self._chunk)

    def _rows(self, part: Segment, units: ActivationStore, changed: NewWeights) -> Iterator[Tensor]:
        """The value at the end of a part, `[images, rows, K]`, some images at a time."""
        left, overrides = self._images, _overrides(part, changed)
        for chunk in units.chunks(self._chunk):
            with torch.no_grad():
                x = run_segment(self._program, part, chunk, overrides)
            rows = x.reshape(x.shape[0] * self._per_unit, -1, x.shape[-1])[:left].float()
            left -= len(rows)
            yield rows


def _sums(chunks: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    """Σ a bᵀ, `[K, K]` in float64, of the first two of each chunk `[images, rows, K]`, of the next two, and so on."""
    totals = list[Tensor]()
    for values in chunks:
        some = [torch.bmm(a.transpose(1, 2), b).double().sum(0) for a, b in zip(values[::2], values[1::2], strict=True)]
        totals = [total + each for total, each in zip(totals, some, strict=True)] if totals else some
    return totals


def _overrides(segment: Segment, changed: NewWeights) -> dict[fx.Node, Callable[..., Any]]:
    """The linears as they became; attentions by plain operators, which `torch.vmap` runs for all images at once."""
    calls = [call for call in map(AttentionCall.of, segment.nodes) if call is not None and not call.is_rounded]
    linears = {node: _linear(weight) for node, weight in changed.items()}
    return {**linears, **dict.fromkeys([call.node for call in calls], _attention)}


def _linear(weight: Tensor) -> Callable[..., Tensor]:
    def run(x: Tensor, _: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.linear(x, weight.to(x.dtype), bias)

    return run


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, *_: Any) -> Tensor:
    return torch.matmul(dialect.probabilities(q, k, bias, scale), v)
