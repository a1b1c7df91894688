"""All that there was is cut at one end, and the other end repeats it: torch cuts what it has padded."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((3, 1, 4))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        return torch.cat([F.pad(x, [0, 2, -1, 2], mode="replicate"), F.pad(x, [0, 2, 2, -1], mode="replicate")], 1)
