"""ONNX Runtime moves a transpose past a padding and forgot which axes it was of."""

import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 6, 4))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        image = x.transpose(1, 2).reshape(2, 4, 3, 2)
        return F.unfold(image, (1, 1), padding=(1, 0), stride=1), F.pad(x.mT, (2, 1))
