"""What a program gives: decided by what its model knows, then by its output's shape."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitgraph.frontend.capture import capture
from vitgraph.ir.model_output import gives_features


class Reshaped(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self.shape) + 1.0


@pytest.mark.parametrize(
    ("shape", "provenance", "features"),
    [
        ((12,), {}, False),
        ((12,), {"classes": 0}, True),
        ((12,), {"classes": 12}, False),
        ((3, 4), {}, True),
        ((3, 2, 2), {}, True),
    ],
)
def test_what_it_gives(shape: tuple[int, ...], provenance: dict[str, Any], features: bool) -> None:
    program = capture(Reshaped(*shape), torch.zeros(2, 3, 2, 2), provenance=provenance)
    assert gives_features(program) is features
