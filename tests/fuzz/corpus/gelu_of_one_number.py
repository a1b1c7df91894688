"""crash · ort · FastGelu: Input 0 is expected to have 1 or more dimensions, got 0 (graph 9952709)."""

import torch
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((2, 5, 8))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(601)
        self.w601 = nn.Buffer(torch.randn([]))
        seed(603)
        self.w603 = nn.Parameter(torch.randn([]))

    def forward(self, x: Tensor) -> object:
        v5 = x.numel() * x.mean()
        v6 = 0.5 * v5 * (1 + torch.tanh(0.7978845608 * (v5 + 0.044715 * v5**3)))
        return v6 + (self.w601 - self.w603) * 100.0
