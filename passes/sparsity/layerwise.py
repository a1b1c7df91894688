"""Change the weights of linears one after another, each by the inputs that it gets from those already changed.

The images go through the program part by part (vitgraph/analysis/segments.py). Kept at once: for each image the one value between
two parts, and for each linear a `[K, K]` matrix. Every image counts once and is summed by itself, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from vitgraph.analysis.segments import Segment, advance, find_segments, run_segment
from vitgraph.images.calibration_data import Images
from vitgraph.ir import dialect
from vitgraph.ir.calls import AttentionCall
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.quantizing.calibration import all_units
from vitgraph.runtime.checkpoint import Checkpoint

CHUNK = 8
"""Images that run together."""
NOT_ON_A_CUT = "not on a single-tensor cut of the graph: layer-wise calibration cannot reach it"
"""Why a linear is left out: images run from one value, which alone is alive there, to the next."""


@dataclass(frozen=True)
class MaskedWeight:
    """What a linear becomes."""

    weight: Tensor
    """`[out, K]`, zero where a weight does not stay."""
    keep: Tensor
    """Which weights stay: bool, `[out, K]`."""
    lost: Tensor
    """Which share of its output's energy is lost, on the inputs it gets."""


Choose = Callable[[fx.Node, Tensor], MaskedWeight]
"""From a linear and Σ x xᵀ `[K, K]` (float64) over its inputs to what it becomes."""


def change_in_order(
    program: Program, linears: Sequence[fx.Node], context: Context, options: str, choose: Choose
) -> dict[fx.Node, MaskedWeight]:
    """What each linear becomes. `options` names the work in the context's scratch folder, where finished parts are kept.

    A linear that lies in no part (see `find_segments`) is not in the result.
    """
    wanted, found = set(linears), dict[fx.Node, MaskedWeight]()
    segments = find_segments(program, wanted.__contains__)
    checkpoint = Checkpoint.of(context.scratch, program, options, context.images)
    stream = _Stream(program, context.images)
    for position, segment in enumerate(segments):
        context.progress("calibration: layers", position, len(segments))
        inside = [node for node in segment.nodes if node in wanted]
        kept = checkpoint.read(position)
        chosen = _restored(inside, kept) if kept is not None else _chosen(stream, segment, inside, choose)
        checkpoint.write(position, {f"{kind}:{n.name}": getattr(c, kind) for n, c in chosen.items() for kind in _KINDS})
        stream.advance(segment, chosen)
        found.update(chosen)
    context.progress("calibration: layers", len(segments), len(segments))
    return found


_KINDS = ("weight", "keep", "lost")


def _restored(linears: Sequence[fx.Node], kept: dict[str, Tensor]) -> dict[fx.Node, MaskedWeight]:
    return {node: MaskedWeight(*(kept[f"{kind}:{node.name}"] for kind in _KINDS)) for node in linears}


def _chosen(
    stream: _Stream, segment: Segment, linears: Sequence[fx.Node], choose: Choose
) -> dict[fx.Node, MaskedWeight]:
    chosen = dict[fx.Node, MaskedWeight]()
    for source, readers in groupby(linears, key=lambda node: node.args[0]):
        assert isinstance(source, fx.Node)
        gram = stream.gram(segment, source, chosen)
        for linear in readers:
            chosen[linear] = choose(linear, gram)
    return chosen


class _Stream:
    """The images on their way through the program."""

    def __init__(self, program: Program, images: Images) -> None:
        self.program, self.images = program, len(images)
        self.units = all_units(program, images)
        self.per_unit = self.units.shape[0]
        self.chunk = max(1, CHUNK // self.per_unit)

    def gram(self, segment: Segment, source: fx.Node, chosen: dict[fx.Node, MaskedWeight]) -> Tensor:
        """Σ x xᵀ of the rows of `source`, `[K, K]`, over the images; not over those that fill a batch up."""
        nodes = segment.nodes[: segment.nodes.index(source) + 1] if source in segment.nodes else ()
        part, total = Segment(segment.start, source, nodes), None
        left = self.images
        for units in self.units.chunks(self.chunk):
            with torch.no_grad():
                x = run_segment(self.program, part, units, _overrides(part, chosen))
            rows = x.reshape(x.shape[0] * self.per_unit, -1, x.shape[-1])[:left].float()
            left -= len(rows)
            some = torch.bmm(rows.transpose(1, 2), rows).double().sum(0)
            total = some if total is None else total + some
        assert total is not None
        return total

    def advance(self, segment: Segment, chosen: dict[fx.Node, MaskedWeight]) -> None:
        """On to the segment's end."""
        self.units = advance(self.program, segment, self.units, _overrides(segment, chosen), self.chunk)


def _overrides(segment: Segment, chosen: dict[fx.Node, MaskedWeight]) -> dict[fx.Node, Callable[..., Any]]:
    """The linears as they become; attentions by plain operators, which `torch.vmap` runs for all images at once."""
    attentions = [
        call.node for call in map(AttentionCall.of, segment.nodes) if call is not None and not call.is_rounded
    ]
    changed = {node: _linear(choice.weight) for node, choice in chosen.items()}
    return {**changed, **dict.fromkeys(attentions, _attention)}


def _linear(weight: Tensor) -> Callable[..., Tensor]:
    def run(x: Tensor, _: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.linear(x, weight.to(x.dtype), bias)

    return run


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, *_: Any) -> Tensor:
    return torch.matmul(dialect.probabilities(q, k, bias, scale), v)
