"""`adaptive_max_pool2d` became two outputs."""

import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 3, 4, 4))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        return F.adaptive_max_pool2d(x, 2), x.mean()
