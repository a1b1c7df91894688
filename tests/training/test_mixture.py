"""Every image once an epoch, every source its share, and the same sequence wherever it is asked for."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.picture_files import GRAY, RGB, noise_files
from vitgraph.errors import InputError
from vitgraph.images.data_sources import open_data
from vitgraph.images.image_set import ImageSet, open_images
from vitgraph.training.mixture import Mixture, Reshuffled, Source, turn


def noise(count: int) -> ImageSet:
    return open_images("random", GRAY, limit=count)


def mixture(sizes: Sequence[int], shares: Sequence[float] | None = None, seed: int = 0) -> Mixture:
    given = dict(enumerate(shares or ()))
    return Mixture([Source(noise(size), False, given.get(at)) for at, size in enumerate(sizes)], seed)


def test_an_epoch_may_be_said_to_be_shorter() -> None:
    sources = [Source(noise(size), False) for size in (5, 3)]
    whole, short = (Mixture(sources, 0, epoch) for epoch in (None, 4))
    assert (whole.epoch_images, short.epoch_images) == (8, 4)
    assert [whole.pick(at) for at in range(16)] == [short.pick(at) for at in range(16)]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_without_shares_each_epoch_has_each_image_once(sizes: list[int], seed: int) -> None:
    mixed = mixture(sizes, seed=seed)
    assert mixed.epoch_images == sum(sizes)
    whole = {(source, row) for source, size in enumerate(sizes) for row in range(size)}
    for epoch in (0, 1, 5):
        first = epoch * mixed.epoch_images
        picked = [mixed.pick(position) for position in range(first, first + mixed.epoch_images)]
        assert len(picked) == len(whole)
        assert set(picked) == whole


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [[mixture([40], seed=seed).pick(at + 40 * epoch) for at in range(40)] for seed in (0, 1) for epoch in (0, 1)]  # fmt: skip
    assert all(one != other for place, one in enumerate(orders) for other in orders[:place])


@given(
    weights=st.lists(st.floats(1e-3, 1), min_size=1, max_size=5),
    first=st.integers(0, 10**12),
    length=st.integers(1, 300),
)
def test_every_window_has_the_shares(weights: list[float], first: int, length: int) -> None:
    exact = [Fraction(weight) for weight in weights]
    shares = [share / sum(exact[place:]) for place, share in enumerate(exact)]
    turns = [turn(shares, position) for position in range(first, first + length)]
    counts = Counter(source for source, _ in turns)
    for source, share in enumerate(exact):
        assert abs(counts[source] - length * share / sum(exact)) <= source + 1
        had = [times for each, times in turns if each == source]
        assert had == list(range(had[0], had[0] + len(had))) if had else True


def test_shares_that_do_not_end_in_one_are_a_fault() -> None:
    with pytest.raises(ValueError, match="not 1"):
        [turn([Fraction(1, 3)], position) for position in range(3)]


def test_with_shares_each_source_goes_through_all_its_images() -> None:
    mixed = mixture([3, 50], [3.0 / 4, 1 / 4])
    picked = [mixed.pick(position) for position in range(400)]
    small = [row for source, row in picked if source == 0]
    large = [row for source, row in picked if source == 1]
    assert (len(small), len(large)) == (300, 100)
    assert all(sorted(small[at : at + 3]) == [0, 1, 2] for at in range(0, 300, 3))
    assert len({tuple(small[at : at + 3]) for at in range(0, 300, 3)}) > 1
    assert sorted(large[:50]) == sorted(large[50:]) == list(range(50))
    assert large[:50] != large[50:]


def test_shares_are_proportions() -> None:
    ones, halves = (mixture([4, 4, 4], [share] * 3) for share in (1.0, 0.25))
    assert [ones.pick(at) for at in range(50)] == [halves.pick(at) for at in range(50)]


@given(places=st.lists(st.integers(0, 200), min_size=1, max_size=30))
def test_the_same_wherever_and_in_whatever_order_it_is_asked(places: list[int]) -> None:
    whole = Reshuffled(7, 3, "x")
    expected = [whole.row(place) for place in range(201)]
    jumping = Reshuffled(7, 3, "x")
    assert [jumping.row(place) for place in places] == [expected[place] for place in places]


def test_names_the_fault(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images to train with; name"):
        Mixture([], 0)
    with pytest.raises(InputError, match=r"random \(seed 0\): it has no share, and others have; give every source one"):
        Mixture([Source(noise(2), False, 0.5), Source(noise(2), False)], 0)
    with pytest.raises(InputError, match=r"share: .* greater than 0.* got 0\.0"):
        mixture([2], [0.0])
    other = open_data(torch.rand(2, 3, 4, 4), None)
    with pytest.raises(InputError, match=r"tensor \[2, 3, 4, 4\]: \[3, 4, 4\], but .* has \[3, 8, 8\]; bring all"):
        Mixture([Source(noise_files(tmp_path, 2, RGB), True), Source(other, False)], 0)
