"""A half convolution times one FP32 number: the result is half, and so is the weight that the number goes into."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((1, 5, 8, 2), torch.float16)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(804)
        self.w804 = nn.Parameter(torch.randn([1, 5, 2, 1], dtype=torch.float16))
        seed(907)
        self.w907 = nn.Parameter(torch.randn([], dtype=torch.float16))

    def forward(self, x: Tensor) -> object:
        v9 = F.conv2d(x, self.w804, None, stride=(2, 2), padding=2, dilation=(2, 1), groups=1)
        return v9 * (self.w907 * torch.tensor(0.5))
