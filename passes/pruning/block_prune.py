"""Put a mask on whole tiles of linears' weights, on as many of each linear as a budget for the model asks for.

Before:
    y = aten.linear.default(x, weight, bias)

After:
    masked = vitgraph.mask.default(weight, weight_keep)       # weight_keep: whole tiles of 32 by 32 are zero
    y = aten.linear.default(x, masked, bias)                  # weight_updated where `refit` changed what stays

LPViT (Xu et al., arXiv 2407.02068). Tiles are ranked, for each weight a curve says what losing the first k of the ranking
costs the model (`_tiles.py`), and all weights give up tiles until the next would cost the same everywhere (`_allocation.py`)
and the budget is met: a share of the model's multiply-accumulates, or of its estimated time or energy on the target.
With `granularity=units` what is ranked is hidden units and heads, whose rows and columns are masked in all linears around them:
`remove-pruned` then makes the model smaller. A tile makes no model smaller, unless it empties a unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, fx

from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import find_sites
from vitgraph.domains import BatchSize, Count, ImageCount, NonNegative, Positive, ProperFraction, Selectors, Share
from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.ir import dialect
from vitgraph.ir.navigate import path_of
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import BudgetFinding, PrunedFinding
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.pruning.allocation import Part, allocate
from vitgraph.passes.pruning.block_cost import Kind, Meter, Metric, estimator, find_meter
from vitgraph.passes.pruning.block_fit import fit_in_order
from vitgraph.passes.pruning.prunable import Prunable, hold_patterns, parts_of, tiles_of, units_of
from vitgraph.passes.pruning.tiles import Curve, TileScore, kept_curves
from vitgraph.passes.sparsity.layerwise import NOT_ON_A_CUT, MaskedWeight
from vitgraph.passes.sparsity.mask_insertion import insert_mask
from vitgraph.targets.target import Target

_READERS = ("proj", "fc2")
"""What reads units."""
_RUNS = {
    "tiles": "TensorRT and ONNX Runtime multiply zeros like any other number, and nothing here skips tiles: no backend gets"
    " faster, but for the hidden units and heads that tiles emptied and remove-pruned takes out",
    "units": "zeros like any other number until remove-pruned takes the units out; smaller dense products after that",
}
"""What backends make of it, in words for the report."""


@dataclass(frozen=True)
class BlockPrune(Pass):
    """Keep `budget` of what the model computes."""

    name: ClassVar[str] = "block-prune"
    effect: ClassVar[Effect] = Effect.LOSSY
    floor_db: ClassVar[float] = -3.0
    without_images: ClassVar[str] = "score=magnitude without refit takes none"

    budget: Share = 0.8
    """The share of the dense program's cost, attention and head included, that is left."""
    metric: Metric = "flops"
    """What the budget is of: multiply-accumulates, or estimated time or energy on the target."""
    kind: Kind = "fp16"
    """In which type the products are estimated, for a budget by latency or energy."""
    batch: BatchSize = 1
    """For how many images, for such a budget."""
    granularity: Literal["tiles", "units"] = "tiles"
    """tiles of weights; or units: hidden units and heads."""
    rows: Count = 32
    """Of a tile."""
    cols: Count = 32
    """Of a tile."""
    multiple: Count = 16
    """Of hidden units a multiple of this stays."""
    score: TileScore = "fisher"
    """What ranks tiles or units; magnitude needs no images."""
    uniform: bool = False
    """The same share of every linear, whatever the curves say."""
    power: NonNegative = 0.0
    """How much of LPViT's power term is added to the curves; 1 weighs it like the loss."""
    min_keep: ProperFraction = 0.05
    """Of every linear at least this share stays."""
    refit: bool = False
    """Fit what stays, by least squares: where units go to what the linear outputs in the dense model, else to what it would on the inputs it gets."""
    percdamp: Positive = 0.1
    """Share of the mean diagonal that `refit` adds to second moments."""
    images: ImageCount = 256
    """Of so many images gradients are taken; `refit` looks at all."""
    only: Selectors = ()
    """Work on these sites only (selectors: roles, paths, bounds); all linears of blocks, or those that read units, where none are named."""
    skip: Selectors = ()
    """Leave these sites alone."""

    @property
    def needs_images(self) -> bool:
        """Gradients and inputs are seen on images."""
        return self.score != "magnitude" or self.refit

    def check(self, target: Target | None, images: Images | None) -> None:
        """Options that contradict each other, and estimates that nobody can make."""
        super().check(target, images)
        if self.uniform and self.power:
            raise InputError("uniform=true looks at no curve that power could be added to; leave one of them out")
        if self.metric != "flops" and target is None:
            raise InputError(
                f"metric={self.metric} asks what a target would take: name one with --target, or take metric=flops"
            )
        if self.metric != "flops" and target is not None:
            estimator(target, self.metric)

    def run(self, program: Program, context: Context) -> None:
        """Prune the chosen sites. Raises `InputError` for a budget that is out of reach."""
        self.prune(program, self.curves(program, context), context)

    def curves(self, program: Program, context: Context) -> list[Curve]:
        """What each site that can be pruned costs the model as it loses more: the same curves for every budget."""
        if self.needs_images and len(program.inputs) != 1:
            raise InputError(
                f"block-prune: {program.name} has several inputs, and images run along one; take score=magnitude"
            )
        tiled = [(each.site, each.tiling) for _, each in self._prunable(program) if isinstance(each, Prunable)]
        options = ("score", "images", "granularity", "rows", "cols", "only", "skip")
        key = f"{self.name} curves {[getattr(self, option) for option in options]}"
        with context.timed("calibration"):
            return kept_curves(program, tiled, self.score, self.images, key, context)

    def prune(self, program: Program, curves: Sequence[Curve], context: Context) -> None:
        """Prune by the curves of this program, or of one like it; `InputError` for a budget that is out of reach."""
        chosen = list[Prunable]()
        for path, prunable in self._prunable(program):
            if isinstance(prunable, str):
                context.refuse(path, prunable)
            else:
                chosen.append(prunable)
        if not chosen and program.calls(dialect.mask):
            return
        meter = find_meter(program, context, self.metric, self.kind, self.batch)
        parts = parts_of(chosen, curves, meter, self.power, self.min_keep)
        lost = self._allocate(parts, meter, context)
        cuts = [cut for cut in map(_Cut, chosen, curves, parts, lost) if cut.lost and context.take(self.name, cut.path)]
        keeps = {linear: keep for cut in cuts for linear, keep in cut.keeps(program).items()}
        keeps |= hold_patterns(program, keeps, context.target)
        with context.timed("calibration"):
            fitted = self._fit(program, keeps, context)
        for linear, keep in keeps.items():
            insert_mask(program, linear, keep, fitted[linear].weight if linear in fitted else None)
        context.findings += [cut.finding(fitted.get(cut.pruned.site.node)) for cut in cuts]

    def _prunable(self, program: Program) -> list[tuple[str, Prunable | str]]:
        """The chosen sites in graph order, each by its path: what can be pruned of it, or why nothing can."""
        if self.granularity == "tiles":
            sites = select(find_sites(program).linears, self.only, self.skip, BLOCK_ROLES)
            return [(site.path, tiles_of(site, self.rows, self.cols)) for site in sites]
        sites = select(find_sites(program).linears, self.only, self.skip, _READERS)
        return [(site.path, units_of(program, site, self.multiple)) for site in sites]

    def _allocate(self, parts: Sequence[Part], meter: Meter, context: Context) -> list[int]:
        """How many each part loses; `InputError` where that is not enough."""
        total = meter.total()
        rest = total - sum(part.cost(0) for part in parts)
        lost = allocate(parts, self.budget * total - rest, self.uniform, 0.005 * self.budget * total)
        left = (rest + sum(part.cost(count) for part, count in zip(parts, lost, strict=True))) / total
        if left > self.budget * 1.01:
            raise InputError(
                f"block-prune: budget={self.budget} metric={self.metric} is out of reach: {left:.3f} is left when all goes that may"
                f" of {len(parts)} site(s); take a larger budget, smaller {self.granularity} or a smaller min_keep, or prune more sites"
            )
        if left < self.budget * 0.99:
            context.refuse(
                "model", f"{self.granularity} are too coarse for a budget of {self.budget}; {left:.4f} is what is left"
            )
        context.findings.append(BudgetFinding(self.metric, self.budget, round(left, 6), _RUNS[self.granularity]))
        return lost

    def _fit(self, program: Program, keeps: dict[fx.Node, Tensor], context: Context) -> dict[fx.Node, MaskedWeight]:
        """New weights for what stays, where they are asked for."""
        if not self.refit:
            return {}
        inside = {node: keeps[node] for node in program.graph.nodes if node in keeps}
        fitted = fit_in_order(program, inside, self.percdamp, repr(self), context, units=self.granularity == "units")
        for linear in inside:
            if linear not in fitted:
                why = f"{NOT_ON_A_CUT}; pruned, but not refitted"
                context.refuse(path_of(linear), why)
        return fitted


@dataclass(frozen=True)
class _Cut:
    """What became of one site."""

    pruned: Prunable
    curve: Curve
    part: Part
    lost: int

    @property
    def path(self) -> str:
        return self.pruned.site.path

    def keeps(self, program: Program) -> dict[fx.Node, Tensor]:
        return self.pruned.keeps(program, self.curve.keep(self.lost))

    def finding(self, choice: MaskedWeight | None) -> PrunedFinding:
        """The site's line in the ledger."""
        tiling, units = self.pruned.tiling, self.pruned.units
        share = float(self.curve.shares(tiling)[self.lost])
        loss = float(self.curve.loss[self.lost] / self.curve.loss.max().clamp(min=1e-300))
        return PrunedFinding(
            pruned=self.path,
            of="tiles" if units is None else units.kind,
            count=tiling.count,
            left=tiling.count - self.lost,
            kept=round(share, 6),
            saliency_lost=float(f"{loss:.6g}"),
            cost_left=round(self.part.cost(self.lost) / self.part.cost(0), 6),
            output_lost=None if choice is None else round(float(choice.lost), 6),
        )
