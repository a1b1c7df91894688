"""A step has the same images, and the same pairs, however many processes and batches it is divided by."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from vitgraph.training.division import Division


def parts(batch_size: int, batches: int, count: int) -> Iterable[tuple[Division, int]]:
    for rank in range(count):
        for batch in range(batches):
            yield Division(batch_size, batches, rank, count), batch


SIZES = {"batch_size": st.integers(1, 9), "batches": st.integers(1, 4), "count": st.integers(1, 4)}


@given(**SIZES, step=st.integers(0, 10**9))
def test_together_they_take_the_steps_stretch_of_the_sequence(batch_size: int, batches: int, count: int, step: int) -> None:  # fmt: skip
    whole = batch_size * batches * count
    taken = [p for division, batch in parts(batch_size, batches, count) for p in division.positions(step, batch)]
    assert sorted(taken) == list(range(step * whole, (step + 1) * whole))
    paired = [
        p for division, batch in parts(batch_size, batches, count) for p in division.paired_positions(step, batch, 0)
    ]
    assert sorted(paired) == sorted(taken)


def pairs_of(pairs: int, batches: int, count: int, step: int, seed: int = 0) -> set[tuple[int, int]]:
    found = set[tuple[int, int]]()
    for division, batch in parts(2 * pairs, batches, count):
        positions = division.paired_positions(step, batch, seed)
        found |= set(zip(positions, reversed(positions), strict=True))
    return found


@given(pairs=st.integers(1, 5), batches=st.integers(1, 4), count=st.integers(1, 4), step=st.integers(0, 99))
def test_pairs_stay_pairs(pairs: int, batches: int, count: int, step: int) -> None:
    assert pairs_of(pairs, batches, count, step) == pairs_of(pairs * batches * count, 1, 1, step)


def test_pairs_are_drawn_anew_each_step() -> None:
    first, second, other = pairs_of(8, 1, 1, 0), pairs_of(8, 1, 1, 1), pairs_of(8, 1, 1, 0, seed=1)
    assert {(a - 16, b - 16) for a, b in second} != first
    assert other != first
