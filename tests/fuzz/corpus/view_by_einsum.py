"""What `einsum` of one operand, `meshgrid` and others give is a view, and sees what is written afterwards."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((3, 1, 4))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        a, b, c = x.sin(), x.cos(), x.tanh()
        turned, summed, same = torch.einsum("bnc->bcn", a), b.sum_to_size(3, 1, 4), torch.atleast_3d(c)
        a += 2
        b += 3
        c += 4
        return turned, summed, same
