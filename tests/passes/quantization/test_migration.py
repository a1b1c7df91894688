"""The search for alpha: what it samples is bounded, what it chooses is the cheapest."""

import torch

from tests.passes.quantization.test_quantize import Noise
from tests.passes.quantization.test_smooth_quant import AFTER_GELU
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.passes.quantization.migration import (
    ALPHAS,
    ROWS,
    ChannelRange,
    Rows,
    best_migration,
    factors,
    sample_rows,
)
from vitgraph.quantizing.calibration import ChannelStatistics


def test_the_sample_is_bounded_whatever_the_windows_are() -> None:
    """A value whose first dimension is windows, not images, gives no more rows."""
    text = AFTER_GELU.replace("linear: f32", "xw: f32[512*N, 1, 8] = aten.reshape.default(x, [-1, 1, 8])\nlinear: f32")
    text = text.replace("N, 4, ", "512*N, 1, ").replace("x: f32[512*N, 1, 8]", "x: f32[N, 512, 8]")
    text = text.replace("linear.default(x,", "linear.default(xw,").replace("(linear_1, x)", "(linear_1, xw)")
    program = parse(text)
    linears = program.calls(aten.linear.default)
    images = Noise((512, 8), count=16)
    for rows in sample_rows(program, linears, images).values():
        assert ROWS <= len(rows.inputs) <= ROWS + 64
        assert len(rows.gradients) == len(rows.inputs)


def test_alpha_0_and_1() -> None:
    largest, weight = torch.tensor([1.0, 50.0, 0.0]), torch.tensor([[1.0, 0.5, 1.0]])
    assert torch.equal(factors(largest, [weight], 0.0), torch.ones(3))
    torch.testing.assert_close(factors(largest, [weight], 1.0), torch.tensor([1.0, 50.0, 1.0]))


def test_an_outlier_whose_weights_are_faint_moves_wholly_and_one_whose_weights_are_not_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 32, generator=generator)
    x[:, 3] *= 300
    rows = Rows(x, torch.ones(512, 16))
    weight = torch.randn(16, 32, generator=generator)
    faint = weight.clone()
    faint[:, 3] /= 300
    reach = ChannelRange(torch.zeros(32), x.abs().amax(0))
    chosen = [best_migration([reach], ALPHAS, [each], [rows], kept=True)[1] for each in (faint, weight)]
    assert chosen[0] == max(ALPHAS)
    assert chosen[1] < chosen[0]


def test_what_lies_to_one_side_is_shifted_and_what_lies_around_zero_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(512, 32, generator=generator)
    weight = torch.randn(16, 32, generator=generator)
    for x, middle in ((torch.nn.functional.gelu(normal * 3), True), (torch.cat([normal, -normal]), False)):
        channels = ChannelStatistics(x.amin(0), x.amax(0), x.mean(0), x.abs().amax(0), len(x))
        reaches = [ChannelRange.of(channels, centred) for centred in (False, True)]
        rows = Rows(x, torch.ones(len(x), 16))
        chosen, _ = best_migration(reaches, ALPHAS, [weight], [rows], kept=True)
        assert bool(chosen.shift.any()) is middle


def test_a_tail_gets_room_for_what_was_not_seen_and_a_quiet_channel_that_of_others() -> None:
    least, most = torch.tensor([-0.17, -0.17, -0.1, -0.17]), torch.tensor([6.0, 4.0, 0.0, 8.0])
    channels = ChannelStatistics(least, most, torch.zeros(4), torch.tensor([5.0, 4.0, 0.1, 7.0]), 64)
    around_zero, centred = (ChannelRange.of(channels, each, spare=True) for each in (False, True))
    torch.testing.assert_close(
        around_zero.largest, torch.tensor([6.3, 4.0, 4.0, 8.3])
    )  # a third of the way from 5 to 6
    torch.testing.assert_close(centred.shift - centred.largest, least)
    assert centred.largest.min() == centred.largest.median()
    seen = ChannelRange.of(channels, True)
    torch.testing.assert_close(seen.shift + seen.largest, most)
