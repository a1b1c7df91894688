"""Tiles cover a weight once, and the curves are the quadratics they claim to be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.passes.sparsity.test_nm_mask import MLP, Mixed
from vitgraph.analysis.sites import find_sites
from vitgraph.ir.parser import parse
from vitgraph.passes.pruning.tiles import (
    LAMBDA,
    Curve,
    Tiling,
    by_gradients,
    by_magnitude,
    by_mean_gradient,
    cut,
    find_curves,
)
from vitgraph.quantizing.fisher import answer, energy


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, Tiling, torch.Tensor]:
    """A weight, its tiles (smaller ones at the edges), and the gradients of some images."""
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    tiling = cut(shape, draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    gradients = torch.randn(draw(st.integers(1, 4)), *shape, generator=generator)
    return torch.randn(shape, generator=generator), tiling, gradients


@settings(max_examples=60, deadline=None)
@given(cases())
def test_tiles_cover_every_number_once(case: tuple[torch.Tensor, Tiling, torch.Tensor]) -> None:
    weight, tiling, _ = case
    masks = torch.stack([tiling.spread(flags) for flags in torch.eye(tiling.count, dtype=torch.bool)])
    assert torch.equal(masks.sum(0), torch.ones_like(weight, dtype=torch.long))
    assert torch.equal(masks.flatten(1).sum(1).double(), tiling.sizes())
    torch.testing.assert_close(tiling.sums(weight), (masks * weight).flatten(1).sum(1))


def test_edges_are_ragged() -> None:
    tiling = cut((5, 7), 2, 4)
    assert tiling.bands == (3, 2)
    assert torch.equal(tiling.sizes(), torch.tensor([8, 6, 8, 6, 4, 3]).double())


@settings(max_examples=60, deadline=None)
@given(cases())
def test_curves_are_the_quadratic_form(case: tuple[torch.Tensor, Tiling, torch.Tensor]) -> None:
    """½ ΔWᵀ H ΔW with H written out, for every point of every curve."""
    weight, tiling, gradients = case
    flat = gradients.double().flatten(1)
    mean = gradients.mean(0)
    eye = LAMBDA * torch.eye(weight.numel(), dtype=torch.float64)
    rank_one = torch.outer(mean.double().flatten(), mean.double().flatten())
    fisher = by_gradients(weight, tiling, tiling.sums(gradients * weight))
    taylor = by_mean_gradient(weight, tiling, mean)
    magnitude = by_magnitude(weight, tiling)
    for curve, hessian in (
        (fisher, flat.T @ flat / len(flat) + eye),
        (taylor, rank_one + eye),
        (magnitude, eye / LAMBDA),
    ):
        for lost in range(tiling.count + 1):
            change = -(weight.double() * ~tiling.spread(curve.keep(lost))).flatten()
            wanted = 0.5 * change @ hessian @ change
            if curve is taylor:
                wanted += (change * mean.double().flatten()).square().mean()
            torch.testing.assert_close(curve.loss[lost], wanted, rtol=1e-4, atol=1e-9)


def test_the_papers_incremental_form_is_another_one() -> None:
    """Its code adds (ΔΔ + 2ΔW) where (2ΔW - ΔΔ) is right; the closed form tells them apart."""
    g, steps = torch.tensor([1.0, 2.0, -1.0]), torch.diag(torch.tensor([0.5, 0.3, 0.2]))
    total, current = 0.0, torch.zeros(3)
    for step in steps:
        current = current + step
        total += float(0.5 * (g @ step) * (g @ (step + 2 * current)))
    assert abs(total - 0.5 * float(g @ current) ** 2) > 0.1


@settings(max_examples=40, deadline=None)
@given(cases(), st.sampled_from(["fisher", "taylor", "magnitude"]))
def test_masks_follow_the_declared_ranking(case: tuple[torch.Tensor, Tiling, torch.Tensor], score: str) -> None:
    """What stays is no less salient than what goes, by the score that was asked for."""
    weight, tiling, gradients = case
    curve, by_tile = curve_of(score, weight, tiling, gradients)
    for lost in range(1, tiling.count):
        keep = curve.keep(lost)
        assert int((~keep).sum()) == lost
        assert float(by_tile[keep].min()) >= float(by_tile[~keep].max()) * (1 - 1e-9)


def curve_of(score: str, weight: torch.Tensor, tiling: Tiling, gradients: torch.Tensor) -> tuple[Curve, torch.Tensor]:
    """The curve, and the score of each tile by hand."""
    if score == "magnitude":
        return by_magnitude(weight, tiling), tiling.sums(weight.double().abs()) / tiling.sizes()
    if score == "taylor":
        mean = gradients.mean(0)
        return by_mean_gradient(weight, tiling, mean), tiling.sums((weight * mean).double().abs()) / tiling.sizes()
    alone = tiling.sums(weight * gradients)
    return by_gradients(weight, tiling, alone), alone.double().square().mean(0) / tiling.sizes()


def test_the_ranking_by_magnitude_is_another_than_by_gradients() -> None:
    """The paper's code ranks curves by one and masks by the other."""
    weight, gradients = torch.tensor([[3.0, 1.0]]), torch.tensor([[[0.1, 5.0]]])
    tiling = cut((1, 2), 1, 1)
    assert bool(curve_of("magnitude", weight, tiling, gradients)[0].keep(1)[0])
    for score in ("taylor", "fisher"):
        assert bool(curve_of(score, weight, tiling, gradients)[0].keep(1)[1])


@pytest.mark.parametrize("batch", ["N", "4"])
def test_gradients_are_those_of_each_image(batch: str) -> None:
    """Against autograd, image by image; a fixed batch is filled up, and the filling does not count."""
    program, images = parse(MLP.replace("[N", f"[{batch}")), Mixed(8, count=10)
    sites = [site for site in find_sites(program).linears if site.role in ("fc1", "fc2")]
    tiled = [(site, cut((site.n, site.k), 4, 4)) for site in sites]
    plain = parse(MLP)
    found = [find_curves(program, tiled, score, images, 10, _quiet) for score in ("taylor", "fisher")]
    weights = [plain.tensor(f"{site.role}.weight") for site in sites]
    losses = [energy(plain.module(image[None]), torch.Generator()) for image in images.pixels]
    each = [torch.autograd.grad(loss, weights) for loss in losses]
    for position, weight in enumerate(weights):
        mean = torch.stack([gradients[position] for gradients in each]).mean(0)
        wanted = by_mean_gradient(weight.detach(), tiled[position][1], mean)
        torch.testing.assert_close(found[0][position].loss, wanted.loss, rtol=1e-3, atol=1e-7)
        assert bool((found[1][position].loss[1:] > 0).all())


def _quiet(what: str, done: int, total: int) -> None: ...


def test_noise_of_the_answer_has_the_answers_covariance() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]]).repeat(20000, 1).requires_grad_()
    noise = torch.autograd.grad(answer(logits, torch.Generator().manual_seed(0)), logits)[0]
    p = logits[0].detach().softmax(-1)
    torch.testing.assert_close(noise.T @ noise / len(noise), p.diag() - torch.outer(p, p), rtol=0.05, atol=0.01)
