"""What is seen of values that are known, in bounded memory."""

from collections.abc import Iterator
from typing import get_args

import pytest
import torch
from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.ir.parser import parse
from vitgraph.quantizing.calibration import Observer, observe, observe_channels
from vitgraph.quantizing.scales import BINS, Method, threshold

DOUBLE = """
x: f32[{n}, 6] = input()
y: f32[{n}, 6] = aten.mul.Tensor(x, 2.0)
return_(y)
"""


class Rows:
    """Given rows, in chunks of any size."""

    def __init__(self, rows: Tensor, chunk: int | None = None) -> None:
        self.rows, self.chunk = rows, chunk
        self.asked = list[int]()

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int) -> Iterator[tuple[Tensor, None]]:
        self.asked.append(size)
        size = self.chunk or size
        for start in range(0, len(self), size):
            yield self.rows[start : start + size], None


def test_counts_magnitudes_and_keeps_nothing_else() -> None:
    program = parse(DOUBLE.format(n="N"))
    (node,) = program.calls()
    told = list[tuple[int, int]]()

    def tell(what: str, done: int, total: int) -> None:
        told.append((done, total))

    images = Rows(torch.tensor([[-1.0, 0.0, 0.5, 0.5, 0.25, 1.0]] * 20))
    (seen,) = observe(program, [Observer(node)], images, progress=tell)
    assert seen.largest == 2.0
    assert seen.counts.shape == (BINS,)
    assert float(seen.counts.sum()) == 120
    assert [float(seen.counts[at]) for at in (0, BINS // 4, BINS // 2, BINS - 1)] == [20, 20, 40, 40]
    assert images.asked == [8, 8]  # the ranges, then the counts
    assert told == 2 * [(8, 20), (16, 20), (20, 20)]


def test_one_run_where_counts_are_not_asked_for() -> None:
    program = parse(DOUBLE.format(n="N"))
    images = Rows(torch.ones(3, 6))
    (seen,) = observe(program, [Observer(program.calls()[0])], images, histograms=False)
    assert (seen.largest, float(seen.counts.sum()), images.asked) == (2.0, 0.0, [8])


@pytest.mark.parametrize("chunk", [1, 3, 20])
def test_the_same_counts_in_whatever_portions(chunk: int) -> None:
    program = parse(DOUBLE.format(n="N"))
    rows = torch.randn(20, 6)
    point = Observer(program.calls()[0])
    (whole,), (parts,) = (observe(program, [point], Rows(rows, size)) for size in (None, chunk))
    assert whole.largest == parts.largest
    assert torch.equal(whole.counts, parts.counts)


def test_a_static_batch_is_filled_up() -> None:
    program = parse(DOUBLE.format(n=4))
    (seen,) = observe(program, [Observer(program.calls()[0])], Rows(torch.randn(6, 6)))
    assert float(seen.counts.sum()) == 48


def test_looks_into_an_attention_at_its_probabilities() -> None:
    text = """
x: f32[N, 3, 4] = input()
y: f32[N, 3, 4] = vitgraph.attention.default(x, x, x, None, 0.5)
return_(y)
"""
    program = parse(text)
    (seen,) = observe(program, [Observer(program.calls()[0], inside=True)], Rows(torch.zeros(2, 3, 4)))
    assert seen.largest == pytest.approx(1 / 3)
    assert float(seen.counts.sum()) == 18


@pytest.mark.parametrize("chunk", [1, 3, None])
def test_range_and_mean_of_each_channel(chunk: int | None) -> None:
    program = parse(DOUBLE.format(n="N"))
    rows = torch.randn(10, 6)
    (seen,) = observe_channels(program, program.calls(), Rows(rows, chunk))
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
        observe(program, [Observer(program.calls()[0])], Rows(torch.zeros(0, 6)))


def test_a_value_that_is_always_zero_still_has_a_scale() -> None:
    program = parse(DOUBLE.format(n="N"))
    (seen,) = observe(program, [Observer(program.calls()[0])], Rows(torch.zeros(2, 6)))
    for method in get_args(Method):
        assert threshold(seen, method) > 0
