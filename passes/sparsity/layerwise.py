"""Change the weights of linears one after another, each by what it reads before and after the changes ahead of it.

What they read is told by its second moments (passes/sparsity/input_moments.py), part of the model by part of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor, fx

from vitgraph.analysis.segments import Segment, find_segments
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.sparsity.input_moments import ImageStream, Moments
from vitgraph.runtime.checkpoint import Checkpoint

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
    """Which share of its output's energy is lost."""


Choose = Callable[[fx.Node, Moments], MaskedWeight]
"""From a linear and the second moments of its inputs to what it becomes."""


def change_in_order(
    program: Program, linears: Sequence[fx.Node], context: Context, options: str, choose: Choose, *, beside: bool
) -> dict[fx.Node, MaskedWeight]:
    """What each linear becomes. `options` names the work in the context's scratch folder, where finished parts are kept.

    With `beside` the moments tell what the linear reads in the program as it came, too. A linear that lies in no part (see `find_segments`) is not in the result.
    """
    wanted, found = set(linears), dict[fx.Node, MaskedWeight]()
    segments = find_segments(program, wanted.__contains__)
    checkpoint = Checkpoint.of(context.scratch, program, options, context.images)
    stream = ImageStream(program, context.images, beside)
    for position, segment in enumerate(segments):
        context.progress("calibration: layers", position, len(segments))
        inside = [node for node in segment.nodes if node in wanted]
        kept = checkpoint.read(position)
        chosen = _restored(inside, kept) if kept is not None else _chosen(stream, segment, inside, choose)
        checkpoint.write(position, {f"{kind}:{n.name}": getattr(c, kind) for n, c in chosen.items() for kind in _KINDS})
        stream.advance(segment, _weights(chosen))
        found.update(chosen)
    context.progress("calibration: layers", len(segments), len(segments))
    return found


_KINDS = ("weight", "keep", "lost")


def _restored(linears: Sequence[fx.Node], kept: dict[str, Tensor]) -> dict[fx.Node, MaskedWeight]:
    return {node: MaskedWeight(*(kept[f"{kind}:{node.name}"] for kind in _KINDS)) for node in linears}


def _chosen(
    stream: ImageStream, segment: Segment, linears: Sequence[fx.Node], choose: Choose
) -> dict[fx.Node, MaskedWeight]:
    chosen = dict[fx.Node, MaskedWeight]()
    for source, readers in groupby(linears, key=lambda node: node.args[0]):
        assert isinstance(source, fx.Node)
        moments = stream.moments(segment, source, _weights(chosen))
        for linear in readers:
            chosen[linear] = choose(linear, moments)
    return chosen


def _weights(chosen: Mapping[fx.Node, MaskedWeight]) -> dict[fx.Node, Tensor]:
    return {linear: choice.weight for linear, choice in chosen.items()}
