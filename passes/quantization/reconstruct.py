"""Refit weights and biases, segment by segment, so that the quantized model gives what the one in floating point gives.

Before:
    pair = vitgraph.fake_quantize.default(w, w_scale, 0)      # each weight rounded to its nearest step
    y = aten.linear.default(xq, pair, b)

After:
    pair = vitgraph.fake_quantize.default(w_fitted, w_scale, 0)   # on the grid already: rounding leaves it as it is
    y = aten.linear.default(xq, pair, b_fitted)

BRECQ (Li et al., arXiv 2102.05426): for each part of the model between two points of the residual stream, in order, minimize
Σ f (y - ŷ)², where ŷ is the quantized part on what the quantized parts before it give, y the part in floating point on clean
inputs, and f the Fisher information of y (vitgraph/quantizing/fisher.py). `weights=round` learns for each weight whether it goes up
or down (AdaRound, Nagel et al., arXiv 2004.10568, with its rectified sigmoid and annealed regularizer); `weights=tune` lets it move
further, with straight-through gradients. Both end hard: every weight is on its grid.

What is finished is kept in the context's scratch folder, so that the same work, stopped and started again, goes on there
and gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, fx

from vitgraph.analysis.segments import Overrides, Segment, advance, find_segments, run_segment
from vitgraph.domains import BatchSize, Positive, Repeats, Seed
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.calls import QuantizeCall
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import SegmentFinding
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.quantization.fitting import Fit, Learned, as_quantized, in_floating_point, without_pairs
from vitgraph.quantizing.calibration import all_units
from vitgraph.quantizing.fisher import weights_at
from vitgraph.runtime.activation_store import ActivationStore
from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.runtime.memory import trim_memory

_CHUNK = 8
"""Units that are run at a time; of all images two values are kept, the exact one and that of the quantized model."""

_AT_ONCE = 2
"""Units whose gradients are taken at a time: the intermediate values of a wide layer are the most that is held."""


@dataclass(frozen=True)
class Reconstruct(Pass):
    """Block-wise reconstruction of a quantized program."""

    name: ClassVar[str] = "reconstruct"
    effect: ClassVar[Effect] = Effect.LOSSY
    floor_db: ClassVar[float] = 3.0

    weights: Literal["tune", "round", "keep"] = "tune"
    """tune: move the weights; round: choose up or down only; keep: leave them, fit the biases alone."""
    iterations: Repeats = 100
    """Steps of Adam for each segment; 200 fit ViT-Tiny to 256 images no better, and images not seen worse (measured)."""
    batch: BatchSize = 8
    """Images a step."""
    rate: Positive = 1.0
    """Factor on the learning rates: 0.03 steps of its scale for a weight, 0.0015 of its row's range for a bias."""
    seed: Seed = 0
    """Of the order in which images are taken."""

    @property
    def needs_images(self) -> bool:
        """What is fitted is what comes out on images."""
        return True

    def run(self, program: Program, context: Context) -> None:
        """Fit each segment in order. Raises `InputError` for `weights=round` in a format without equal steps."""
        if len(program.inputs) != 1:
            context.refuse("model", "it has several inputs, and segments are cut along one")
            return
        segments = find_segments(program, lambda node: _is_weight_pair(program, node))
        if not segments:
            context.refuse("model", "it has no quantized weight; run the pass quantize first")
            return
        self._check_formats(program)
        with context.timed("calibration"):
            self._fit_all(program, segments, context)

    def _check_formats(self, program: Program) -> None:
        """Raise `InputError` where weights are to go up or down to codes that are no equal steps."""
        pairs = [node for node in program.calls(dialect.fake_quantize) if _is_weight_pair(program, node)]
        grids = [QuantizeCall(pair).format for pair in pairs]
        uneven = [grid.name for grid in grids if grid.dtype.is_floating_point]
        if self.weights == "round" and uneven:
            raise InputError(f"reconstruct: weights=round: {uneven[0]} has no equal steps; take tune")

    def _fit_all(self, program: Program, segments: list[Segment], context: Context) -> None:
        fisher, teacher = _importance(program, segments, context), in_floating_point(program)
        trim_memory(cycles=True)  # the copy without pairs
        checkpoint = Checkpoint.of(context.scratch, program, repr(self), context.images)
        noisy = exact = all_units(program, context.images)
        for position, (segment, importance) in enumerate(zip(segments, fisher, strict=True)):
            context.progress("reconstruct", position, len(segments))
            if not context.take(self.name, _where(segment)):
                break
            exact = advance(program, segment, exact, teacher, keep=exact is noisy)
            quantized = as_quantized(segment)
            parts = (run_segment(program, segment, part, quantized) for part in noisy.chunks(_CHUNK))
            before = _error(parts, exact, importance)
            kept = checkpoint.read(position)
            learned = (
                Learned(kept) if kept else self._fit(program, segment, (noisy, exact), importance, before, position)
            )
            checkpoint.write(position, learned.tensors)
            learned.apply(program, segment)
            program.clean()  # the weights that were fitted are released
            trim_memory()
            noisy = advance(program, segment, noisy, quantized)
            after = _error(noisy.chunks(_CHUNK), exact, importance)
            context.findings.append(SegmentFinding(_where(segment), round(before, 9), round(after, 9)))
        context.progress("reconstruct", len(segments), len(segments))

    def _fit(
        self,
        program: Program,
        segment: Segment,
        values: tuple[ActivationStore, ActivationStore],
        importance: Tensor,
        before: float,
        position: int,
    ) -> Learned:
        """Steps on random images; the same seed gives the same steps."""
        x, y = values
        fit = Fit(program, segment, self.weights, self.rate)
        if not fit.groups:
            return fit.harden()
        optimizer: torch.optim.Optimizer = torch.optim.Adam(fit.groups)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.iterations)
        overrides: Overrides = fit.overrides
        generator = torch.Generator().manual_seed(self.seed + position)
        for step in range(self.iterations):
            some = [int(each) for each in torch.randperm(len(x), generator=generator)[: self.batch]]
            optimizer.zero_grad()
            for at in range(0, len(some), _AT_ONCE):
                few = some[at : at + _AT_ONCE]
                error = run_segment(program, segment, x.read(few), overrides) - y.read(few)
                share = len(few) / len(some) / max(before, 1e-20)
                torch.autograd.backward(share * (importance * error.square()).mean())
            penalty = fit.penalty(step / self.iterations)
            if penalty.requires_grad:
                torch.autograd.backward(penalty)
            optimizer.step()  # pyright: ignore[reportUnknownMemberType]
            schedule.step()
        return fit.harden()


def _importance(program: Program, segments: list[Segment], context: Context) -> list[Tensor]:
    """What an error at each segment's end costs at the output, by the program without its pairs."""
    clean = without_pairs(program)
    ends = [node for node in clean.graph.nodes if node.name in {s.end.name for s in segments}]
    return weights_at(clean, ends, context.images, len(context.images), context.progress)


def _is_weight_pair(program: Program, node: fx.Node) -> bool:
    """A quantizer on a weight, masked or not."""
    if node.target is not dialect.fake_quantize:
        return False
    source: Any = node.args[0]
    plain = source.args[0] if source.target is dialect.mask else source
    return program.constant(plain) is not None


@torch.no_grad()
def _error(parts: Iterable[Tensor], exact: ActivationStore, importance: Tensor) -> float:
    """The mean weighted squared error of values that come in chunks."""
    pairs = zip(parts, exact.chunks(_CHUNK), strict=True)
    total = sum(float((importance * (value - wanted).square()).sum()) for value, wanted in pairs)
    return total / (len(exact) * prod(exact.shape))


def _where(segment: Segment) -> str:
    return segment.end.meta.get("path") or segment.end.name
