"""The negative of bytes wraps around; ONNX negates signed numbers alone."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((4,), torch.uint8)


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        return -x
