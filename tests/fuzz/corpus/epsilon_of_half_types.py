"""wrong · legalize · declared reorders, but the relative L2 drift is 0.0214 > 0.02 (graph 9955193)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((1, 5, 8))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(700)
        self.w700 = nn.Parameter(torch.randn([8], dtype=torch.float16))

    def forward(self, x: Tensor) -> object:
        v2 = F.softmax(x, 2, dtype=torch.float16) * 0.01
        return F.rms_norm(v2, [8], self.w700, eps=None)
