"""wrong · captured · a write through an expansion to the size that is there is rounded."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 4, 6), torch.float32)


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        small = x * 1e-5
        return small.expand_as(small).square_()
