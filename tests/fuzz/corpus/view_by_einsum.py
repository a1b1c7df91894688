"""What `einsum` of one operand and `sum_to_size` give is a view, and sees what is written afterwards."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((3, 1, 4))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        a, b = x.sin(), x.cos()
        turned, summed = torch.einsum("bnc->bcn", a), b.sum_to_size(3, 1, 4)
        a += 2
        b += 3
        return turned, summed
