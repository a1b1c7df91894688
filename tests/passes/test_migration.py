"""The search for alpha: what it samples is bounded, what it chooses is the cheapest."""

import torch

from tests.passes.test_quantize import Noise
from tests.passes.test_smooth import BEHIND_GELU
from vitgraph.passes._migration import ALPHAS, ROWS, Rows, best_alpha, factors, sample_rows
from vitgraph.text import parse

aten = torch.ops.aten


def test_the_sample_is_bounded_whatever_the_windows_are() -> None:
    """A value whose first dimension is windows, not images, gives no more rows."""
    text = BEHIND_GELU.replace("linear: f32", "xw: f32[512*N, 1, 8] = aten.reshape.default(x, [-1, 1, 8])\nlinear: f32")
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
    shift, largest = torch.zeros(32), x.abs().amax(0)
    chosen = [best_alpha(largest, shift, [each], [rows]) for each in (faint, weight)]
    assert chosen[0] == max(ALPHAS)
    assert chosen[1] < chosen[0]
