"""A batch norm of one number, the mean of a vector: what it follows has no channels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((4,))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(700)
        self.w700 = nn.Parameter(torch.randn([1]))
        seed(701)
        self.w701 = nn.Parameter(torch.randn([1]))
        seed(702)
        self.w702 = nn.Buffer(torch.randn([1]))

    def forward(self, x: Tensor) -> object:
        _, v2 = torch.var_mean(x, -1, correction=0)
        v9 = v2.flatten().unsqueeze(0)
        return F.batch_norm(v9, self.w700, self.w701.abs() + 0.5, self.w702, None, False, 0.1, 1e-05)
