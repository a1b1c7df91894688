"""wrong · canonicalize · declared reorders, but the relative L2 drift is inf > 0.02 (graph 900452235)."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((1, 5, 8), torch.float16)


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        wide = (x * 8).square()
        return wide.norm(p=3, dim=[1], keepdim=True), (wide * 20).std(1)
