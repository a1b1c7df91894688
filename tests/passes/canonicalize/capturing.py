"""A function as a model, through capture and `canonicalize`, held to what torch gives."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitgraph.backends import find_backend
from vitgraph.frontend.capture import capture
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.ir.verify import verify
from vitgraph.passes import pipeline

Said = Callable[["Model", Tensor], Tensor]
TOLERANCE = 2e-6  # relative and absolute, on numbers of about one


class Model(nn.Module):
    """What a function of itself and its input says, with a few tensors to say it with."""

    weight: Tensor
    alone: Tensor
    two: Tensor
    three: Tensor
    yes: Tensor
    keep: Tensor

    def __init__(self, said: Said) -> None:
        super().__init__()
        self.said = said
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(8, 3, generator=generator))
        self.alone = nn.Parameter(torch.tensor(0.75))
        self.two, self.three = nn.Buffer(torch.tensor(2.0)), nn.Buffer(torch.tensor(3))
        self.yes = nn.Buffer(torch.tensor(True))
        self.keep = nn.Buffer(torch.rand(6, 6, generator=generator) > 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.said(self, x)


def numbers(size: int = 2) -> Tensor:
    """`[size, 4, 6, 8]`, normal."""
    return torch.randn(size, 4, 6, 8, generator=torch.Generator().manual_seed(1))


def special(size: int = 2) -> Tensor:
    """The same with zeros of both signs, infinities and NaN among them, and numbers near and far."""
    x = numbers(size)
    x.view(-1)[:8] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-9, 1e9, -2.5])
    return x


def canonical(said: Said, dynamic: bool = False) -> Program:
    """The canonical program of a function; it is valid, and a second run changes nothing."""
    found = pipeline("canonicalize").run(capture(Model(said).eval(), numbers(), name="said", dynamic_batch=dynamic))
    assert verify(found) == {}
    assert show(pipeline("canonicalize").run(found)) == show(found)
    return found


def hold_to_torch(said: Said, *, dynamic: bool = False) -> Program:
    """The canonical program and ONNX Runtime give what torch gives: shape, type and numbers; the program."""
    program, model = canonical(said, dynamic), Model(said).eval()
    same = functools.partial(torch.testing.assert_close, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    for size in (1, 2, 5) if dynamic else (2,):
        x = numbers(size)
        with torch.no_grad():
            wanted = model(x)
        same(program.run(x), wanted)
        with find_backend("ort").load(program) as runner:
            same(runner.run(x), wanted, check_dtype=False)
    return program
