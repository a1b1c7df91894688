"""A constant that is NaN was folded into a weight, which may not be NaN."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((1, 5, 3))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(0)
        self.table = nn.Buffer(torch.randn([1, 5, 3]))

    def forward(self, x: Tensor) -> object:
        return x + (self.table - self.table.mean(0)) / (self.table.std(0) + 0.1)
