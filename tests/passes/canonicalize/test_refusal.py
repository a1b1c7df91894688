"""What the dialect lacks is an InputError of one line that names all of it, ahead of any work."""

import pytest
import torch
from torch import Tensor, nn

from tests.passes.canonicalize.capturing import canonical
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.passes import pipeline


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cummax(-1)[0] + x.atan()


class Outer(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Inner() for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x.erfinv()


def refusal(model: nn.Module) -> str:
    program = capture(model, torch.zeros(1, 3))
    with pytest.raises(InputError) as caught:
        pipeline("canonicalize").run(program)
    return str(caught.value)


def test_names_all_operators_their_modules_and_a_remedy() -> None:
    said = refusal(Outer(5))
    assert said.startswith("Outer: vitgraph has no form for aten.cummax.default (in blocks.0, ")
    assert "(in blocks.0, in blocks.1, in blocks.2 and 2 more modules); aten.atan.default (" in said
    assert "aten.erfinv.default (in model)" in said
    assert said.count("docs/program.md") == 1
    assert "\n" not in said


def test_what_nothing_reads_is_not_refused() -> None:
    def said(m: nn.Module, x: Tensor) -> Tensor:
        x.atan()
        return x.relu()

    assert len(canonical(said).calls()) == 1


@pytest.mark.parametrize("call", ["rand_like", "bernoulli", "randn_like"])
def test_random_numbers_are_told_as_such(call: str) -> None:
    with pytest.raises(InputError, match=rf"aten.{call}.* Random numbers differ on every run"):
        canonical(lambda m, x: x + getattr(torch, call)(x.sigmoid()))


def test_random_numbers_made_of_constants_are_refused_and_not_frozen() -> None:
    with pytest.raises(InputError, match="exponential"):
        canonical(lambda m, x: x + torch.empty(8).exponential_())


class WritesWindows(nn.Module):
    """What torch writes as a backward form, whose dimension counts from the end of another value than its first."""

    def forward(self, x: Tensor) -> Tensor:
        windows = x.unfold(-1, 2, 2)
        windows[..., ::2].add_(-1.5)
        return windows


def test_a_backward_form_is_refused_by_name() -> None:
    assert "no form for aten.unfold_backward.default" in refusal(WritesWindows())
