"""A query that keeps no key became NaN; torch gives zero."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input, seed

INPUT = Input((2, 2, 4, 6))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        seed(0)
        self.keep = nn.Buffer(torch.tensor([[True, False, True, True]] * 3 + [[False] * 4]))

    def forward(self, x: Tensor) -> object:
        return F.scaled_dot_product_attention(x, x, x, attn_mask=self.keep)
