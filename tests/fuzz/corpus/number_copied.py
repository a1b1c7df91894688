"""A number that was copied over a part of a tensor ended canonicalize."""

from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 3, 4), dynamic=True)


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        y = x + 1
        y.select(-1, 0).copy_(-1.5)  # type: ignore[arg-type]
        return y
