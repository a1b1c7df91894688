"""Put an N:M mask on the weights of the chosen linears: of every M neighbours along K, N stay.

Before:
    y = aten.linear.default(x, weight, bias)

After:
    masked = vitgraph.mask.default(weight, weight_keep)       # weight_keep: bool, the weight's shape
    y = aten.linear.default(x, masked, bias)                  # weight_updated where kept weights changed

In V:N:M (arXiv 2410.16135), `v` rows share four columns of each `m`, chosen by the sum of what the rows score, and each row keeps
`n` of these: 2:4 on gathered columns, with fewer weights than 2:4 has. TensorRT has no kernel that gathers.

The mask is a node until `materialize`, so the program still trains with it. Which weights stay, and what they become:
- `magnitude` (ASP, Mishra et al., arXiv 2104.08378): the largest; needs no images;
- `wanda` (Sun et al., arXiv 2306.11695): |w| times the norm of the input it multiplies;
- `sparsegpt` (Frantar and Alistarh, arXiv 2301.00774): chosen and updated by the second moments of the linear's inputs;
- `cap` (Kuznedelev et al., arXiv 2210.09223): the same by the Fisher information of blocks of weights.
Images run through layer by layer, and each linear is judged by the inputs that those already masked give it. `refit`
then moves the kept weights to the exact least squares: the dense linear's outputs on these inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import LinearSite, find_sites
from vitgraph.domains import Count, Positive, Selectors
from vitgraph.errors import InputError
from vitgraph.images.calibration_data import Images
from vitgraph.ir.mask_patterns import linears
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import GATHERED, Packing
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import MaskFinding
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes.sparsity.layerwise import NOT_ON_A_CUT, change_in_order
from vitgraph.passes.sparsity.mask_insertion import insert_mask, is_masked, mask_refusal
from vitgraph.passes.sparsity.nm_scores import chooser
from vitgraph.targets.target import Target


@dataclass(frozen=True)
class NmMask(Pass):
    """Keep `n` of every `m` weights along K."""

    name: ClassVar[str] = "nm-mask"
    effect: ClassVar[Effect] = Effect.LOSSY
    floor_db: ClassVar[float] = 0.5
    without_images: ClassVar[str] = "score=magnitude without refit takes none"

    n: Count = 2
    """How many weights of each `m` stay."""
    m: Count = 4
    """How many neighbours along K are one group."""
    group_size: Count = 1
    """So many neighbours count as one of the m: 2 is 4:8 in pairs, which sparse INT4 products read."""
    v: Count = 1
    """So many rows keep weights in the same four columns of each m (V:N:M): `v=64 n=2 m=8` is 2:4 on half of the columns."""
    score: Literal["magnitude", "wanda", "sparsegpt", "cap"] = "magnitude"
    """Which weights stay; magnitude needs no images."""
    refit: bool = False
    """Fit what is kept, by least squares, to what the dense linear outputs."""
    percdamp: Positive = 0.1
    """Share of the mean diagonal that is added to second moments: how far kept weights are held to what they were."""
    only: Selectors = ()
    """Work on these sites only (selectors: roles, paths, bounds); all linears of blocks where none are named."""
    skip: Selectors = ()
    """Leave these sites alone."""

    @property
    def needs_images(self) -> bool:
        """Every score but magnitude asks what the linears read."""
        return self.score != "magnitude" or self.refit

    def check(self, target: Target | None, images: Images | None) -> None:
        """A pattern that is none."""
        super().check(target, images)
        if self.n >= self.m:
            raise InputError(f"n={self.n} m={self.m}: a pattern keeps n of m weights, with 0 < n < m; write n=2 m=4")
        if self.v > 1 and not self.n < GATHERED < self.m:
            raise InputError(
                f"v={self.v} n={self.n} m={self.m}: v rows share four columns of each m, of which n stay: with v over 1,"
                " n is under 4 and m over 4; write v=64 n=2 m=8"
            )

    def run(self, program: Program, context: Context) -> None:
        """Mask every chosen site that can take the pattern; `InputError` where none can."""
        sites = select(find_sites(program).linears, self.only, self.skip, BLOCK_ROLES)
        refusals = {site.node: self._refusal(site, program, context) for site in sites}
        done = any(is_masked(site.node) for site in sites)
        if sites and all(refusals.values()) and not done:
            raise InputError(
                f"nm-mask: no site of {program.name} can take {self._pattern}; {sites[0].path}: {refusals[sites[0].node]}"
                " (choose another pattern, or another target)"
            )
        taken = list[LinearSite]()
        for site in sites:
            why = refusals[site.node]
            if why is not None:
                context.refuse(site.path, why)
            elif context.take(self.name, site.path):
                taken.append(site)
        self._mask(program, taken, context)

    @property
    def _pattern(self) -> Packing:
        return Packing(self.n, self.m, self.group_size, self.v)

    def _refusal(self, site: LinearSite, program: Program, context: Context) -> str | None:
        """Why this site cannot take the pattern, or None."""
        why = mask_refusal(site.node)
        if why is not None:
            return why
        rows, channels = weight_of(site.node).meta["type"].shape[:2]
        if channels % self._pattern.width:
            return f"K = {channels} is no multiple of {self._pattern.width}"
        if rows % self.v:
            return f"N = {rows} is no multiple of {self.v}"
        unfit = None if context.target is None else context.target.nm_refusal(self._pattern, channels)
        if unfit is not None:
            return unfit
        if self.needs_images and site.is_conv:
            return "it is a convolution, whose inputs are not looked at; score=magnitude masks it"
        if self.needs_images and len(program.inputs) != 1:
            return "the model has several inputs, and images run along one; score=magnitude needs none"
        return None

    def _mask(self, program: Program, sites: list[LinearSite], context: Context) -> None:
        if not self.needs_images:
            for site in sites:
                weight = program.tensor(str(weight_of(site.node).target)).detach()
                keep = nm_keep(weight.abs(), self._pattern)
                insert_mask(program, site.node, keep)
                lost = (weight * ~keep).double().square().sum() / weight.double().square().sum().clamp(min=1e-30)
                self._record(program, site, context, weights_lost=round(float(lost), 6))
            return
        with context.timed("calibration"):
            choose = chooser(program, sites, self._pattern, self.score, self.refit, self.percdamp, context)
            chosen = change_in_order(program, [site.node for site in sites], context, repr(self), choose, beside=False)
        for site in sites:
            choice = chosen.get(site.node)
            if choice is None:
                context.refuse(site.path, NOT_ON_A_CUT)
                continue
            moved = self.refit or self.score in ("sparsegpt", "cap")
            insert_mask(program, site.node, choice.keep, choice.weight if moved else None)
            self._record(program, site, context, output_lost=round(float(choice.lost), 6))

    def _record(self, program: Program, site: LinearSite, context: Context, **lost: float) -> None:
        """Declare the pattern on the program, which holds the weight to it from here on, and say what it cost."""
        place = linears(program)[site.node]
        program.masks[place] = self._pattern
        context.findings.append(MaskFinding.of(place, self._pattern, **lost))
