"""The factor of 6 rows to 5 is rounded down in FP32: ONNX Runtime inferred 4 rows, and a product planned by that failed."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((1, 2, 6, 8))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(812)
        self.w812 = nn.Parameter(torch.randn([4, 6]))
        seed(813)
        self.w813 = nn.Buffer(torch.randn([6]))

    def forward(self, x: Tensor) -> object:
        v2 = F.interpolate(x, size=(5, 4), mode="bilinear", align_corners=False)
        v9 = F.linear(v2, self.w812.t(), self.w813)
        return x * 2, v9.prod(-3, True)
