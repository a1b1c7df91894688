"""The Fisher information of linears' weights, block by block along K: E[g gᵀ] of the gradients that each image gives.

The loss is that of vitgraph/quantizing/fisher.py, which needs no labels. WoodFisher's blocks (Singh and Alistarh, arXiv 2004.14340),
as CAP takes them for vision transformers (Kuznedelev et al., arXiv 2210.09223).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, fx

from vitgraph.analysis.sites import LinearSite
from vitgraph.images.calibration_data import Images
from vitgraph.ir.program import Program
from vitgraph.progress import Progress
from vitgraph.quantizing.fisher import gradients

_WIDEST = 32
_ROOM = 1 << 27
"""Numbers held for the linears of one run over the images: 512 MiB."""


def block_width(k: int, group: int) -> int:
    """The widest block of whole groups, up to 32 weights, that divides K."""
    return max((b for b in range(group, _WIDEST + 1, group) if k % b == 0), default=group)


def weight_fisher(
    program: Program,
    sites: Sequence[LinearSite],
    group: int,
    images: Images,
    progress: Progress,
) -> Iterator[tuple[LinearSite, Tensor]]:
    """Each site with its blocks `[out, K / width, width, width]`, float32; as many runs over the images as room asks for."""
    for some in _chunks(sites, group):
        yield from zip(some, _run(program, some, group, images, progress), strict=True)


def _chunks(sites: Sequence[LinearSite], group: int) -> Iterator[list[LinearSite]]:
    some, held = list[LinearSite](), 0
    for site in sites:
        numbers = site.n * site.k * block_width(site.k, group)
        if some and held + numbers > _ROOM:
            yield some
            some, held = [], 0
        some.append(site)
        held += numbers
    if some:
        yield some


def _run(
    program: Program,
    sites: list[LinearSite],
    group: int,
    images: Images,
    progress: Progress,
) -> list[Tensor]:
    """E[g gᵀ] for these sites."""
    operands: list[fx.Node] = [arg for site in sites for arg in (site.node.args[0], site.node)]  # type: ignore[misc]
    totals = [torch.zeros(s.n, s.k // (b := block_width(s.k, group)), b, b) for s in sites]
    for values, found in gradients(program, [program.inputs[0], *operands], images, len(images), progress):
        count = len(values[0])
        for total, x, g in zip(totals, values[1::2], found[2::2], strict=True):
            total += _outer(x.reshape(count, -1, x.shape[-1]), g.reshape(count, -1, g.shape[-1]), total.shape[-1])
    return [total / len(images) for total in totals]


def _outer(x: Tensor, g: Tensor, width: int) -> Tensor:
    """Σ over images of the outer products of the weight gradients' blocks: `[out, K / width, width, width]`."""
    weight_gradients = torch.bmm(g.transpose(1, 2), x)  # [images, out, K]
    blocks = weight_gradients.reshape(len(x), g.shape[-1], -1, width).permute(1, 2, 3, 0)
    return torch.matmul(blocks, blocks.transpose(2, 3))
