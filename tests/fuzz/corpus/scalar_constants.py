"""Arithmetic of constants without dimensions ended canonicalize."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((2, 8))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(0)
        self.limit = nn.Buffer(torch.tensor(0.25))

    def forward(self, x: Tensor) -> object:
        scale = torch.tensor(2.0) * 3
        return torch.where(x > self.limit, self.limit, 2 * self.limit) * scale * (self.limit * self.limit)
