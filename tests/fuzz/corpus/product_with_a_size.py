"""A size that hangs on the batch was taken for a tensor by fold-layer-scale."""

from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 4, 6), dynamic=True)


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        y = x * 0.5
        return x.shape[0] * y.mean()
