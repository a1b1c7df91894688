"""A recipe that quantizes little says so, with what would be quantized."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.harness import run
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.findings import LeftInFloatFinding
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.quantization.quantize import Quantize
from vitgraph.targets.target import get_target

POINTWISE = """
i: f32[N, 8, 6, 6] = input()
x: f32[N, 8, 6, 6] = aten.tanh.default(i)
a: f32[32, 8, 1, 1] = weight("a.weight")
h: f32[N, 32, 6, 6] = aten.conv2d.default(x, a, None, [1, 1], [0, 0], [1, 1], 1)  # a
g: f32[N, 32, 6, 6] = aten.gelu.default(h)
b: f32[8, 32, 1, 1] = weight("b.weight")
y: f32[N, 8, 6, 6] = aten.conv2d.default(g, b, None, [1, 1], [0, 0], [1, 1], 1)  # b
return_(y)
"""
LINEARS = """
x: f32[N, 8, 8] = input()
a: f32[32, 8] = weight("a.weight")
h: f32[N, 8, 32] = aten.linear.default(x, a, None)  # a
g: f32[N, 8, 32] = aten.gelu.default(h)
b: f32[8, 32] = weight("b.weight")
y: f32[N, 8, 8] = aten.linear.default(g, b, None)  # b
z: f32[N, 8, 8] = aten.add.Tensor(x, y)
return_(z)
"""


class _Noise:
    """Three inputs of a shape."""

    def __init__(self, *shape: int) -> None:
        self.values = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return 3

    def batches(self, size: int) -> Iterator[tuple[Tensor, None]]:
        yield self.values, None


def found(step: Quantize, text: str) -> list[LeftInFloatFinding]:
    """What the pass says of the work that it left."""
    shape = (8, 6, 6) if text == POINTWISE else (8, 8)
    context = Context(get_target("cpu"), calibration=_Noise(*shape))
    run(step, parse(text), context)
    return [each for each in context.findings if isinstance(each, LeftInFloatFinding)]


def test_a_model_of_pointwise_convolutions_is_told_how_to_quantize_them() -> None:
    (finding,) = found(Quantize(), POINTWISE)
    assert (finding.quantized_macs, finding.left_in_float) == (0.0, "pointwise 100%")
    assert "quantize{only=[*]} takes pointwise too" in finding.remedy
    assert found(Quantize(only=("*",)), POINTWISE) == []  # and the remedy is one


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Quantize(group=5), "no multiple of 5"),
        (Quantize(skip=("fc1", "fc2")), "left out by skip"),
    ],
)
def test_the_reason_is_the_one_that_left_them(step: Quantize, said: str) -> None:
    (finding,) = found(step, LINEARS)
    assert said in finding.remedy


def test_a_model_that_is_quantized_is_not_told_so() -> None:
    assert found(Quantize(), LINEARS) == []
    assert found(Quantize(skip=("fc2",)), LINEARS) == []  # half of it, and no more


def test_what_is_quantized_already_is_not_left() -> None:
    context = Context(calibration=_Noise(8, 8))
    once = run(Quantize(), parse(LINEARS), context)
    run(Quantize(), once, context)
    assert context.findings == []


UNKNOWN = """
x: f32[N, 8, 8] = input()
n: f32[N, 8, 8] = aten.cumsum.default(x, 1)
a: f32[8, 8] = weight("mix.weight")
y: f32[N, 8, 8] = aten.linear.default(n, a, None)  # mix
z: f32[N, 8, 8] = aten.cumsum.default(y, 1)
return_(z)
"""


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [(UNKNOWN, {}, ["mix"]), (UNKNOWN, {"only": ("*",)}, []), (LINEARS, {}, [])],
    ids=["a linear that is for nothing known", "named", "known ones"],
)
def test_a_linear_that_is_not_recognized_says_why(text: str, options: dict[str, Any], told: list[str]) -> None:
    context = Context(calibration=_Noise(8, 8))
    run(Quantize(**options), parse(text), context)
    assert [refusal.site for refusal in context.refusals if "recognized" in refusal.why] == told
