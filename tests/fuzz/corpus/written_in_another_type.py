"""A sum written into a value of FP16, and a comparison into numbers, took the type of what was computed."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 4))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        half = x.sin().to(torch.float16)
        half = half * 2
        half.add_(x, alpha=0.5)
        above = x * 2
        above.gt_(0.1)
        return half, above
