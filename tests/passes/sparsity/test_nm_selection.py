"""The mathematics of N:M masks: least squares on what stays, against solutions by other means."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import Packing
from vitgraph.passes.sparsity.nm_selection import damped, refit, share_lost, sweep


def inputs(samples: int, k: int, seed: int = 0) -> Tensor:
    """Rows that are correlated, so that kept weights have something to make good."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(k, k, generator=generator, dtype=torch.float64)
    return torch.randn(samples, k, generator=generator, dtype=torch.float64) @ mixing


def weights(n: int, k: int, seed: int = 1) -> Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def least_squares(x: Tensor, w: Tensor, keep: Tensor) -> Tensor:
    """Row by row from the data itself, by its pseudo-inverse."""
    result = torch.zeros_like(w)
    for row in range(len(w)):
        result[row, keep[row]] = torch.pinverse(x[:, keep[row]]) @ x @ w[row]
    return result


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 5)]), st.integers(0, 99))
def test_refit_is_the_dense_least_squares_solution(n: int, groups: int, pattern: tuple[int, int], seed: int) -> None:
    k = groups * pattern[1]
    x, w = inputs(4 * k, k, seed), weights(n, k, seed)
    keep = nm_keep(w.abs(), Packing(*pattern))
    gram = x.T @ x
    torch.testing.assert_close(refit(keep, gram, w @ gram), least_squares(x, w, keep), rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(0, 99))
def test_the_update_of_a_sweep_is_the_dense_least_squares_solution(n: int, seed: int) -> None:
    """Where all that is dropped comes first; what comes before a dropped weight is no longer moved for it."""
    x, w = inputs(40, 8, seed), weights(n, 8, seed)
    w[:, :4] *= 1e-6  # dropped: eight weights, four of which stay
    values, keep = (each[0] for each in sweep(w[None], (x.T @ x)[None], Packing(4, 8)))
    wanted = torch.arange(8) >= 4
    assert bool((keep == wanted).all())
    torch.testing.assert_close(values, least_squares(x, w, keep), rtol=1e-6, atol=1e-9)


def test_a_sweep_by_the_wrong_moments_is_not() -> None:
    x, w = inputs(40, 8), weights(3, 8)
    w[:, :4] *= 1e-3
    values, keep = (each[0] for each in sweep(w[None], torch.eye(8, dtype=torch.float64)[None], Packing(4, 8)))
    assert not torch.allclose(values, least_squares(x, w, keep), rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from([Packing(2, 4), Packing(1, 4), Packing(2, 4, 2), Packing(2, 8)]),
    st.integers(0, 99),
)
def test_each_dropped_weight_is_made_good_by_the_least_squares_of_those_to_its_right(
    n: int, pattern: Packing, seed: int
) -> None:
    """The whole update again by dense solutions, one for each dropped weight, from the data itself."""
    x, w = inputs(40, 16, seed), weights(n, 16, seed)
    values, keep = (each[0] for each in sweep(w[None], (x.T @ x)[None], pattern))
    for row in range(n):
        again = w[row].clone()
        for column in map(int, (~keep[row]).nonzero()):
            right = x[:, column + 1 :]
            again[column + 1 :] += torch.pinverse(right) @ x[:, column] * again[column]
            again[column] = 0
        torch.testing.assert_close(values[row], again, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("pattern", [Packing(2, 4), Packing(1, 4), Packing(2, 4, 2), Packing(4, 8), Packing(2, 8, v=8)])
def test_each_step_loses_less(pattern: Packing) -> None:
    """Magnitude, then least squares on it; a sweep, then least squares on that."""
    x, w = inputs(256, 32), weights(16, 32)
    gram = x.T @ x
    keep = nm_keep(w.abs(), pattern)
    values, swept = (each[0] for each in sweep(w[None], gram[None], pattern))
    losses = [w * keep, refit(keep, gram, w @ gram), values, refit(swept, gram, w @ gram)]
    magnitude, fitted, obs, both = (float(share_lost(w, each, gram)) for each in losses)
    assert fitted < magnitude
    assert obs < magnitude
    assert both <= obs * (1 + 1e-9)
    assert both < fitted


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.data())
def test_every_mask_of_a_sweep_is_valid(m: int, group_size: int, groups: int, tiles: int, data: st.DataObject) -> None:
    v = data.draw(st.integers(1, 4)) if m > 4 else 1
    pattern = Packing(data.draw(st.integers(1, m - 1 if v == 1 else 3)), m, group_size, v)
    k, n_out = groups * m * group_size, tiles * v
    x = inputs(data.draw(st.integers(1, 2 * k)), k)  # fewer samples than inputs as well
    hessian = damped(x.T @ x, 0.01)
    values, keep = (each[0] for each in sweep(weights(n_out, k)[None], hessian[None], pattern))
    units = keep.reshape(n_out, groups, m, group_size)
    assert bool((units.all(-1) == units.any(-1)).all())
    assert bool((units.any(-1).sum(-1) == pattern.n).all())
    assert pattern.holds(keep)
    assert bool((values[~keep] == 0).all())
    assert bool(values.isfinite().all())


def test_rows_of_a_tile_share_the_columns_with_the_largest_sums() -> None:
    """Column 0 has one row's largest weight and the smallest sum: with two rows to a tile it goes."""
    scores = torch.tensor([[9.0, 8.0, 7.0, 6.0, 5.0], [0.0, 5.0, 6.0, 7.0, 8.0]])
    assert [int(at) for _, at in nm_keep(scores, Packing(2, 5)).nonzero()] == [0, 1, 3, 4]
    assert [int(at) for _, at in nm_keep(scores, Packing(2, 5, v=2)).nonzero()] == [1, 2, 3, 4]


def test_tiles_do_not_see_one_another() -> None:
    scores = weights(12, 16).abs()
    whole = nm_keep(scores, Packing(2, 8, v=4))
    for at in range(0, 12, 4):
        assert torch.equal(whole[at : at + 4], nm_keep(scores[at : at + 4], Packing(2, 8, v=4)))
    assert not torch.equal(whole, nm_keep(scores, Packing(2, 8, v=12)))


def test_pairs_are_kept_by_their_sum() -> None:
    scores = torch.tensor([[9.0, 0.0, 5.0, 5.0, 1.0, 1.0, 4.0, 4.0]])
    wanted = torch.tensor([[True, True, True, True, False, False, False, False]])
    assert torch.equal(nm_keep(scores, Packing(2, 4, 2)), wanted)


def test_inputs_that_are_never_seen_leave_their_weights_as_they_are() -> None:
    x, w = inputs(64, 8), weights(4, 8)
    x[:, 2] = 0
    gram = damped(x.T @ x, 0.01)
    keep = torch.ones(4, 8, dtype=torch.bool)
    keep[:, 0] = False
    torch.testing.assert_close(refit(keep, gram, w @ gram)[:, 2], w[:, 2])
    nothing = damped(torch.zeros(8, 8, dtype=torch.float64), 0.01)
    torch.testing.assert_close(refit(keep, nothing, w @ nothing), w * keep)


def test_more_damping_holds_weights_nearer_to_what_they_were() -> None:
    x, w = inputs(64, 16), weights(8, 16)
    keep, gram = nm_keep(w.abs(), Packing(2, 4)), x.T @ x
    moved = list[float]()
    for damp in (1e-6, 0.1, 10.0, 1e6):
        hessian = damped(gram, damp)
        moved.append(float((refit(keep, hessian, w @ hessian) - w * keep).abs().max()))
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-4


def test_share_lost() -> None:
    x, w = inputs(64, 8), weights(4, 8)
    gram = x.T @ x
    assert float(share_lost(w, w, gram)) == 0.0
    torch.testing.assert_close(float(share_lost(w, 0 * w, gram)), 1.0)
    changed = w * (torch.arange(8) % 2)
    share = (x @ (changed - w).T).square().sum() / (x @ w.T).square().sum()
    torch.testing.assert_close(share_lost(w, changed, gram), share)
    assert float(share_lost(w, w, 0 * gram)) == 0.0
