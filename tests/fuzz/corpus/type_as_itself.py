"""wrong · captured · output 1 of batch 3 is off by 1 (of 2) (graph 9955456): `type_as` gave the value itself, which was written to."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((3, 1, 4))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(804)
        self.w502 = nn.Buffer(torch.randn([], dtype=torch.float64))
        self.c804 = nn.Buffer(torch.tensor(2))

    def forward(self, x: Tensor) -> object:
        v1 = F.softmax(x, -2, dtype=torch.float64)
        v4 = v1.mT.mul_(True)
        v5 = v1.type_as(self.w502)
        v7 = v4.mul_(self.c804)
        return v5, v7
