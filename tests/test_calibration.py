"""Scales from distributions that are known, in bounded memory."""

from collections.abc import Iterator
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitgraph import dialect
from vitgraph.calibration import (
    BINS,
    LEVELS,
    METHODS,
    Method,
    Point,
    Statistics,
    observe,
    observe_channels,
    threshold,
    weight_scales,
)
from vitgraph.errors import InputError
from vitgraph.text import parse

DOUBLE = """
x: f32[{n}, 6] = input()
y: f32[{n}, 6] = aten.mul.Tensor(x, 2.0)
return_(y)
"""


class Rows:
    """Given rows, in portions of any size."""

    def __init__(self, rows: Tensor, portion: int | None = None) -> None:
        self.rows, self.portion = rows, portion
        self.asked = list[int]()

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int) -> Iterator[tuple[Tensor, None]]:
        self.asked.append(size)
        size = self.portion or size
        for start in range(0, len(self), size):
            yield self.rows[start : start + size], None


def histogram(values: Tensor) -> Statistics:
    largest = float(values.abs().max())
    return Statistics(largest, torch.histc(values.abs().float(), BINS, 0.0, largest).double())


def squared_error(values: Tensor, top: float) -> float:
    step = top / LEVELS
    return float(((values / step).round().clamp(-LEVELS, LEVELS) * step - values).square().sum())


def test_counts_magnitudes_and_keeps_nothing_else() -> None:
    program = parse(DOUBLE.format(n="N"))
    (node,) = program.calls()
    told = list[tuple[int, int]]()

    def tell(what: str, done: int, total: int) -> None:
        told.append((done, total))

    images = Rows(torch.tensor([[-1.0, 0.0, 0.5, 0.5, 0.25, 1.0]] * 20))
    (seen,) = observe(program, [Point(node)], images, progress=tell)
    assert seen.largest == 2.0
    assert seen.counts.shape == (BINS,)
    assert float(seen.counts.sum()) == 120
    assert [float(seen.counts[at]) for at in (0, BINS // 4, BINS // 2, BINS - 1)] == [20, 20, 40, 40]
    assert images.asked == [8, 8]  # the ranges, then the counts
    assert told == 2 * [(8, 20), (16, 20), (20, 20)]


def test_one_run_where_counts_are_not_asked_for() -> None:
    program = parse(DOUBLE.format(n="N"))
    images = Rows(torch.ones(3, 6))
    (seen,) = observe(program, [Point(program.calls()[0])], images, histograms=False)
    assert (seen.largest, float(seen.counts.sum()), images.asked) == (2.0, 0.0, [8])


@pytest.mark.parametrize("portion", [1, 3, 20])
def test_the_same_counts_in_whatever_portions(portion: int) -> None:
    program = parse(DOUBLE.format(n="N"))
    rows = torch.randn(20, 6)
    point = Point(program.calls()[0])
    (whole,), (parts,) = (observe(program, [point], Rows(rows, size)) for size in (None, portion))
    assert whole.largest == parts.largest
    assert torch.equal(whole.counts, parts.counts)


def test_a_static_batch_is_filled_up() -> None:
    program = parse(DOUBLE.format(n=4))
    (seen,) = observe(program, [Point(program.calls()[0])], Rows(torch.randn(6, 6)))
    assert float(seen.counts.sum()) == 48


def test_looks_into_an_attention_at_its_probabilities() -> None:
    text = """
x: f32[N, 3, 4] = input()
y: f32[N, 3, 4] = vitgraph.attention.default(x, x, x, None, 0.5)
return_(y)
"""
    program = parse(text)
    (seen,) = observe(program, [Point(program.calls()[0], inside=True)], Rows(torch.zeros(2, 3, 4)))
    assert seen.largest == pytest.approx(1 / 3)
    assert float(seen.counts.sum()) == 18


@pytest.mark.parametrize("portion", [1, 3, None])
def test_range_and_mean_of_each_channel(portion: int | None) -> None:
    program = parse(DOUBLE.format(n="N"))
    rows = torch.randn(10, 6)
    (seen,) = observe_channels(program, program.calls(), Rows(rows, portion))
    assert torch.equal(seen.largest, 2 * rows.abs().amax(0))
    assert torch.equal(seen.most, 2 * rows.amax(0))
    assert torch.equal(seen.least, 2 * rows.amin(0))
    torch.testing.assert_close(seen.mean, 2 * rows.mean(0))


def test_channels_may_stand_in_another_dimension() -> None:
    program = parse("x: f32[N, 3, 5] = input()\ny: f32[N, 3, 5] = aten.mul.Tensor(x, 2.0)\nreturn_(y)")
    rows = torch.randn(4, 3, 5)
    (seen,) = observe_channels(program, program.calls(), Rows(rows), axis=1)
    assert torch.equal(seen.most, 2 * rows.amax((0, 2)))


def test_no_image_is_an_error() -> None:
    program = parse(DOUBLE.format(n="N"))
    with pytest.raises(InputError, match="at least one image"):
        observe(program, [Point(program.calls()[0])], Rows(torch.zeros(0, 6)))


def test_a_value_that_is_always_zero_still_has_a_scale() -> None:
    program = parse(DOUBLE.format(n="N"))
    (seen,) = observe(program, [Point(program.calls()[0])], Rows(torch.zeros(2, 6)))
    for method in get_args(Method):
        assert threshold(seen, method) > 0


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
    assert METHODS == ("minmax", "percentile", "entropy", "mse")
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
        assert bool((dialect.to_codes(weight, scale, 0)[1] == 0).all())
