"""The remainder of a constant by zero is NaN, which no constant may hold: it stays computed."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((2, 4))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(10011)
        self.c10011 = nn.Buffer(torch.randn([2, 6], dtype=torch.float16))

    def forward(self, x: Tensor) -> object:
        return torch.remainder(self.c10011, -0.0), x
