"""A part with a step that was written over had no form."""

from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 3, 6))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        y = x + 1
        y[..., ::2].add_(1)
        y[:, 0] = 0.5
        return y
