"""Products with factors, and padding by name along a line, had no form."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((2, 4, 8))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(0)
        self.kernel = nn.Parameter(torch.randn([4, 4, 2]))
        seed(1)
        self.bias = nn.Parameter(torch.randn([4]))

    def forward(self, x: Tensor) -> object:
        y = F.conv1d(x, self.kernel, padding="same")
        return torch.baddbmm(self.bias, y, y.mT, beta=0.5, alpha=-2)
