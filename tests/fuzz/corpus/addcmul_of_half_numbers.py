"""wrong · canonicalize · declared reorders, but the relative L2 drift is inf > 0.02 (graph 890362973)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((2, 3, 4, 4), torch.float16)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(402)
        self.w402 = nn.Buffer(torch.randn([4, 4], dtype=torch.float16))

    def forward(self, x: Tensor) -> object:
        v1 = F.log_softmax(x, 2)
        v2 = v1.relu_()
        return torch.addcmul(x, self.w402, v2, value=65504)
