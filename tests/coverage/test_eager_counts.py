"""The counts that the table is held to, on modules whose products and softmaxes can be counted by hand."""

import pytest
import torch
from torch import Tensor, nn

from tests.coverage.eager_counts import Counts, count


class Spelled(nn.Module):
    """One product or softmax, as it may be spelled."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.weight = nn.Parameter(torch.randn(8, 8))
        self.layer = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `[B, 4, 8]`."""
        projected: Tensor = self.layer(x)
        if self.spelling == "linear":
            return projected
        if self.spelling == "einsum":
            return torch.einsum("btc,dc->btd", x, self.weight)
        if self.spelling == "a product with a weight":
            return x @ self.weight
        if self.spelling == "a product of two weights":
            return x + (self.weight @ self.layer.weight)[0]
        if self.spelling == "a product of two values":
            return x @ x.mT @ x
        if self.spelling == "a branch that nobody reads":
            self.unused(x).softmax(-1)
            return projected
        if self.spelling == "a write through a view":
            out = torch.zeros_like(x)
            out[:, :2] = projected[:, :2]
            return out
        if self.spelling == "a softmax of one":
            return x.softmax(1)[:, :1].softmax(1) * x
        return nn.functional.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize(
    ("spelling", "linears", "softmaxes"),
    [
        ("linear", 1, 0),
        ("einsum", 1, 0),
        ("a product with a weight", 1, 0),
        ("a product of two weights", 0, 0),
        ("a product of two values", 0, 0),
        ("a branch that nobody reads", 1, 0),
        ("a write through a view", 1, 0),
        ("a softmax of one", 0, 1),
        ("attention", 0, 1),
    ],
)
def test_counts(spelling: str, linears: int, softmaxes: int) -> None:
    assert count(Spelled(spelling).eval(), torch.randn(1, 4, 8)) == Counts(linears, 0, softmaxes)


def test_counts_inside_of_torchs_own_layers() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    assert count(layer, torch.randn(1, 4, 8)) == Counts(4, 0, 1)


def test_counts_convolutions_of_either_direction() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 2, 2, 2)).eval()
    assert count(model, torch.randn(1, 3, 4, 4)) == Counts(0, 2, 0)
