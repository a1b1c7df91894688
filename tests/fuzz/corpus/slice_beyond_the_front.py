"""A start beyond the front was counted from the end again."""

from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 5, 4))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        return x[..., -100:-1], x[:, -7:3], x[:, 2:100]
