"""A weight cut into tiles, and what it costs the model to lose them: curves in closed form.

A change ΔW costs about ½ ΔWᵀ H ΔW. When tiles go ΔW is -W there and 0 elsewhere, so that all it takes are sums over
tiles, one pass over the weight for all points of the curve. H is

- E[g gᵀ] + λI over images (`fisher`), g the gradient that an image gives (vitgraph/quantizing/fisher.py): ½ E[(g·ΔW)²] + ½ λ|ΔW|²;
- ḡ ḡᵀ + λI (`taylor`, LPViT, arXiv 2407.02068), ḡ the mean gradient of the output's energy; the paper's squared first-order
  term, the mean of (ΔW ḡ)², is added;
- I (`magnitude`), which takes no images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx

from vitgraph.analysis.sites import LinearSite
from vitgraph.images.calibration_data import Images
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import affine
from vitgraph.progress import Progress
from vitgraph.quantizing.fisher import Loss, energy, gradients
from vitgraph.runtime.checkpoint import Checkpoint

LAMBDA = 1e-7
"""What LPViT adds to the diagonal of H."""
TileScore = Literal["fisher", "taylor", "magnitude"]
Tiled = Sequence[tuple[LinearSite, "Tiling"]]
"""Linears with the tiles of their weights."""


@dataclass(frozen=True)
class Tiling:
    """Bands of rows and bands of columns; a tile is where two cross."""

    rows: Tensor
    """In which band each row is, `[out]`."""
    columns: Tensor
    """In which band each column is, `[K]`."""

    @property
    def bands(self) -> tuple[int, int]:
        """How many there are of each."""
        return int(self.rows.max()) + 1, int(self.columns.max()) + 1

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return self.bands[0] * self.bands[1]

    def sums(self, values: Tensor) -> Tensor:
        """`[…, out, K]` summed over each tile, `[…, count]`."""
        down, across = self.bands
        some = values.new_zeros(*values.shape[:-2], down, values.shape[-1]).index_add_(-2, self.rows, values)
        return values.new_zeros(*some.shape[:-1], across).index_add_(-1, self.columns, some).flatten(-2)

    def sizes(self) -> Tensor:
        """How many numbers each tile has, `[count]`, float64."""
        down, across = (torch.bincount(bands).double() for bands in (self.rows, self.columns))
        return torch.outer(down, across).flatten()

    def spread(self, flags: Tensor) -> Tensor:
        """A flag for each tile, `[count]`, as one for each number, `[out, K]`."""
        return flags.view(self.bands)[self.rows][:, self.columns]


def cut(shape: Sequence[int], rows: int, columns: int) -> Tiling:
    """Tiles of `rows` by `columns`; those at the lower and right edges may be smaller."""
    return Tiling(torch.arange(shape[0]) // rows, torch.arange(shape[1]) // columns)


@dataclass(frozen=True)
class Curve:
    """The declared ranking of a weight's tiles, and what losing them costs."""

    order: Tensor
    """The tiles, least salient first, `[count]`."""
    loss: Tensor
    """What it costs to lose the first k of them, `[count + 1]`, float64."""

    def keep(self, lost: int) -> Tensor:
        """Which tiles stay when so many are lost: bool, `[count]`."""
        flags = torch.ones(len(self.order), dtype=torch.bool)
        flags[self.order[:lost]] = False
        return flags

    def shares(self, tiling: Tiling) -> Tensor:
        """The share of the weight's numbers that stays when the first k tiles are lost, `[count + 1]`, float64."""
        sizes = tiling.sizes()
        return 1 - _running(sizes, self.order) / sizes.sum()


def kept_curves(
    program: Program, tiled: Tiled, score: TileScore, count: int, key: str, context: Context
) -> list[Curve]:
    """`find_curves` on the context's images, once: in its scratch folder the curves are kept under `key`."""
    images = None if score == "magnitude" else context.images
    checkpoint = Checkpoint.of(None if images is None else context.scratch, program, key, images)
    kept = checkpoint.read(0)
    if kept is not None:
        return [Curve(kept[f"order {place}"], kept[f"loss {place}"]) for place in range(len(tiled))]
    curves = find_curves(program, tiled, score, images, count, context.progress)
    orders = {f"order {place}": curve.order for place, curve in enumerate(curves)}
    losses = {f"loss {place}": curve.loss for place, curve in enumerate(curves)}
    checkpoint.write(0, {**orders, **losses})
    return curves


def find_curves(
    program: Program, tiled: Tiled, score: TileScore, images: Images | None, count: int, progress: Progress
) -> list[Curve]:
    """A curve for each weight; at most `count` images are looked at, none for `magnitude`."""
    weights = [affine.weight(program, site.node) for site, _ in tiled]
    tilings = [tiling for _, tiling in tiled]
    if score == "magnitude" or images is None or not tiled:
        return [by_magnitude(weight, tiling) for weight, tiling in zip(weights, tilings, strict=True)]
    if score == "taylor":
        totals = [torch.zeros_like(weight) for weight in weights]
        for position, some in _gradients(program, tiled, images, count, progress, energy):
            totals[position] += some.sum(0)
        means = [total / min(count, len(images)) for total in totals]
        return [by_mean_gradient(*each) for each in zip(weights, tilings, means, strict=True)]
    products = [list[Tensor]() for _ in tiled]
    for position, some in _gradients(program, tiled, images, count, progress):
        products[position].append(tilings[position].sums(some * weights[position]))
    return [
        by_gradients(w, tiling, torch.cat(each)) for w, tiling, each in zip(weights, tilings, products, strict=True)
    ]


def _gradients(
    program: Program, tiled: Tiled, images: Images, count: int, progress: Progress, loss: Loss | None = None
) -> Iterator[tuple[int, Tensor]]:
    """For some images at a time and each weight: its position and the gradient that each image gives, `[images, out, K]`."""
    operands: list[fx.Node] = [arg for site, _ in tiled for arg in (site.node.args[0], site.node)]  # type: ignore[misc]
    left = min(count, len(images))
    for values, found in gradients(program, [program.inputs[0], *operands], images, left, progress, loss):
        batch = len(values[0])  # windows of an image lie side by side
        for position, (x, g) in enumerate(zip(values[1::2], found[2::2], strict=True)):
            rows, errors = (each.reshape(batch, -1, each.shape[-1])[:left] for each in (x, g))
            yield position, torch.bmm(errors.transpose(1, 2), rows)
        left -= batch


def by_magnitude(weight: Tensor, tiling: Tiling) -> Curve:
    """Ranked by the mean of |w|; ½|ΔW|²."""
    order = _order(tiling.sums(weight.double().abs()), tiling)
    return Curve(order, 0.5 * _running(tiling.sums(weight.double().square()), order))


def by_mean_gradient(weight: Tensor, tiling: Tiling, mean: Tensor) -> Curve:
    """Ranked by the mean of |w ḡ|, for `mean` = ḡ `[out, K]`; the mean of (ΔW ḡ)² and the second order."""
    w = weight.double()
    product = w * mean.double()
    order = _order(tiling.sums(product.abs()), tiling)
    first = _running(tiling.sums(product.square()), order) / w.numel()
    second = _running(tiling.sums(product), order).square() + LAMBDA * _running(tiling.sums(w.square()), order)
    return Curve(order, first + 0.5 * second)


def by_gradients(weight: Tensor, tiling: Tiling, products: Tensor) -> Curve:
    """Ranked by what a tile alone would cost, by the number; `products` `[images, count]` are the sums of w g over each tile."""
    alone = products.double().square().mean(0)
    order = _order(alone, tiling)
    second = torch.stack([_running(image.double(), order).square() for image in products]).mean(0)
    return Curve(order, 0.5 * (second + LAMBDA * _running(tiling.sums(weight.double().square()), order)))


def _order(saliency: Tensor, tiling: Tiling) -> Tensor:
    """The least first, by the number; of equals the first."""
    return (saliency / tiling.sizes()).argsort(stable=True)


def _running(sums: Tensor, order: Tensor) -> Tensor:
    """Sums over the first k tiles, from none to all."""
    return torch.cat([sums.new_zeros(1), sums[order].cumsum(0)])
