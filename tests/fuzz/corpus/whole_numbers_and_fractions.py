"""A fraction became a whole number, or a truth value, where it was compared with one."""

from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 6))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        positive = x > 0.1
        return positive > 0.5, positive.long() > 0.5, positive.long() * 2 >= 1.5
