"""Why a model is not captured, said so that its author knows what to change."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.ir.program import Program

Said = Callable[[Tensor], Tensor]


class Model(nn.Module):
    def __init__(self, said: Said) -> None:
        super().__init__()
        self.said = said

    def forward(self, x: Tensor) -> Tensor:
        return self.said(x)


FIXING: list[Said] = [
    lambda x: x.reshape(len(x), -1),
    lambda x: x.view(int(x.shape[0]), -1),
    lambda x: torch.stack(list(x)),
    lambda x: x.reshape(2, -1),
]
BY_VALUES: list[Said] = [lambda x: x.nonzero(), lambda x: x[x > 0], lambda x: x.masked_select(x > 0)]


def captured(said: Said, dynamic: bool = True) -> Program:
    return capture(Model(said), torch.randn(2, 3, 4), name="model", dynamic_batch=dynamic)


def twice_if_more_than_one(x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] > 1 else x


def twice_if_even(x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] % 2 == 0 else x


@pytest.mark.parametrize("said", FIXING)
def test_code_that_fixes_the_batch_is_told(said: Said) -> None:
    with pytest.raises(
        InputError, match=r"model: its code fixes the batch at 2, by len\(x\).* as x\.shape\[0\], or capture it for one"
    ):
        captured(said)
    assert captured(said, dynamic=False).calls()


def test_code_for_some_batches_is_told() -> None:
    with pytest.raises(InputError, match="its code is for some batch sizes only; capture it for one"):
        captured(twice_if_even)


def test_code_that_does_something_else_for_one_image_is_told() -> None:
    """torch.export takes a batch for two or more, and says nothing."""
    with pytest.raises(InputError, match="does something else for a batch of one than for larger ones"):
        captured(twice_if_more_than_one)
    assert captured(twice_if_more_than_one, dynamic=False).calls()


def test_a_fault_of_the_model_is_told_as_its_own() -> None:
    with pytest.raises(InputError, match=r"the model itself fails on an input f32\[2, 3, 4\]: Dimension out of range"):
        captured(lambda x: torch.stack([x, x]).unbind(5)[0], dynamic=False)


@pytest.mark.parametrize("said", BY_VALUES)
def test_a_size_that_hangs_on_values_is_told_with_the_operator(said: Said) -> None:
    with pytest.raises(InputError, match=r"model: aten\.\w+\.\w+ in model gives a size that depends on the values"):
        captured(said, dynamic=False)
