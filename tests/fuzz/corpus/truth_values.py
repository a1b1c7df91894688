"""Sums and products of truth values were no ONNX operators; outputs of truth values could not be compared."""

from torch import Tensor, nn

from tests.fuzz.recipe import Input

INPUT = Input((2, 6))


class Model(nn.Module):
    def forward(self, x: Tensor) -> object:
        positive, small = x > 0, x.abs() < 0.5
        return positive + small, positive * small, positive > small
