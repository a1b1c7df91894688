"""The factor of `addcmul` went to the sum in place of the product."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 8))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        return torch.addcmul(x, x * 2, x - 1, value=-1.5)
