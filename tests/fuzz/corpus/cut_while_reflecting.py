"""A reflection of a whole row at one end, of which the other end is cut: torch cuts what it has padded."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 16, 3, 2))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        return torch.cat([F.pad(x, [0, 0, -1, 2], mode="reflect"), F.pad(x, [0, 0, 2, -1], mode="reflect")], 2)
