"""ONNX Runtime refused windows whose padding at the end is as wide as the kernel, though they have gaps."""

import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 3, 4, 4))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        return F.max_pool2d(x, 3, stride=3, padding=1, ceil_mode=True, dilation=2)
