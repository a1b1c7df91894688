"""wrong · ort · output 0 of batch 2 differs in 192 of 192 elements (graph 9952918)."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 4, 6, 4), torch.uint8)


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        return x.clamp(-1, 2)
