"""Scales from distributions that are known."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitgraph.ir import dialect
from vitgraph.quantizing.scales import BINS, LEVELS, METHODS, Method, Statistics, threshold, weight_scales


def histogram(values: Tensor) -> Statistics:
    largest = float(values.abs().max())
    return Statistics(largest, torch.histc(values.abs().float(), BINS, 0.0, largest).double())


def squared_error(values: Tensor, top: float) -> float:
    step = top / LEVELS
    return float(((values / step).round().clamp(-LEVELS, LEVELS) * step - values).square().sum())


def test_min_max_is_exact() -> None:
    values = torch.randn(1000)
    assert threshold(histogram(values), "minmax") == float(values.abs().max())


def test_the_percentile_clips_a_planted_outlier() -> None:
    values = torch.cat([torch.linspace(-1, 1, 100_000), torch.tensor([50.0])])
    seen = histogram(values)
    assert threshold(seen, "minmax") == 50.0
    assert threshold(seen, "percentile") == pytest.approx(1.0, abs=50 / BINS)
    assert threshold(seen, "percentile", 100.0) == 50.0
    assert threshold(seen, "percentile", 50.0) == pytest.approx(0.5, abs=50 / BINS)


def test_least_squares_is_near_the_optimum_of_a_normal_distribution() -> None:
    values = torch.randn(200_000)
    found = threshold(histogram(values), "mse")
    tops = [2.0 + 0.05 * step for step in range(61)]
    best = min(squared_error(values, top) for top in tops)
    assert squared_error(values, found) <= 1.02 * best
    assert found == pytest.approx(min(tops, key=lambda top: squared_error(values, top)), rel=0.08)
    assert squared_error(values, found) < squared_error(values, float(values.abs().max()))


def test_least_squares_keeps_all_of_a_uniform_distribution() -> None:
    assert threshold(histogram(torch.linspace(-3, 3, 100_000)), "mse") == pytest.approx(3.0, rel=0.03)


def test_entropy_clips_an_outlier_and_keeps_what_is_there() -> None:
    normal = torch.randn(100_000)
    seen = histogram(torch.cat([normal, torch.tensor([40.0, -40.0])]))
    found = threshold(seen, "entropy")
    assert 2.0 < found < 10.0
    assert threshold(histogram(torch.linspace(-3, 3, 100_000)), "entropy") > 2.0


def test_every_method_gives_a_threshold_within_the_range() -> None:
    seen = histogram(torch.randn(10_000))
    assert METHODS == ("minmax", "percentile", "entropy", "mse", "hessian")
    for method in get_args(Method):
        assert 0 < threshold(seen, method) <= seen.largest


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 7, 64]), st.floats(1e-3, 1e3))
def test_least_squares_is_never_worse_than_the_largest_weight(seed: int, k: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, k, generator=generator).pow(3) * size

    def error(scale: Tensor) -> Tensor:
        rounded: Tensor = dialect.fake_quantize(weight, scale, 0)
        return (rounded - weight).square().sum(1)

    least, plain = weight_scales(weight, "mse"), weight_scales(weight, "minmax")
    torch.testing.assert_close(plain, weight.abs().amax(1) / LEVELS)
    assert bool((error(least) <= error(plain) * (1 + 1e-5)).all())
    assert bool((least <= plain * (1 + 1e-6)).all())


def test_least_squares_is_better_where_one_weight_stands_out() -> None:
    weight = torch.cat([torch.randn(1, 40_000), torch.tensor([[6.0]])], 1)
    least, plain = weight_scales(weight, "mse"), weight_scales(weight, "minmax")
    assert float(least) < 0.9 * float(plain)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2, 2)])
def test_a_row_of_zeros_has_a_positive_scale(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape)
    weight[1] = 0.0
    for scale in (weight_scales(weight, "mse"), weight_scales(weight, "minmax")):
        assert scale.shape == (3,)
        assert bool((scale > 0).all())
        assert bool((dialect.quantize_values(weight, scale, 0)[1] == 0).all())


def test_one_scale_for_all_rows() -> None:
    weight = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    assert weight_scales(weight, whole=True).shape == ()
    assert float(weight_scales(weight, whole=True)) == pytest.approx(4 / LEVELS)
    assert 0 < float(weight_scales(weight, "mse", whole=True)) <= 4 / LEVELS
