"""A recipe that quantizes little says so, with what would be quantized."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.harness import run
from vitgraph.analysis.roles import BLOCK_ROLES, ROLES
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.findings import LeftInFloatFinding
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.quantization.left_in_float import LEFT_ALONE
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


HEAD = """
x: f32[N, 8, 8] = input()
p: f32[8, 8] = weight("embed.weight")
e: f32[N, 8, 8] = aten.linear.default(x, p, None)  # embed
n: f32[N, 8, 8] = aten.cumsum.default(e, 1)
a: f32[8, 8] = weight("mix.weight")
m: f32[N, 8, 8] = aten.linear.default(n, a, None)  # mix
c: f32[N, 8, 8] = aten.cumsum.default(m, 1)
b: f32[8, 8] = weight("first.weight")
y: f32[N, 8, 8] = aten.linear.default(c, b, None)  # first
d: f32[8, 8] = weight("second.weight")
z: f32[N, 8, 8] = aten.linear.default(c, d, None)  # second
s: f32[N, 8, 8] = aten.add.Tensor(y, z)
return_(s)
"""


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        (HEAD, {}, {"embed": "reads the image", "first": "ends in the output", "second": "ends in the output"}),
        (HEAD, {"only": ("*",)}, {}),
        (LINEARS, {}, {}),
    ],
    ids=["of other roles", "named", "of a block"],
)
def test_a_linear_that_its_role_leaves_says_why(text: str, options: dict[str, Any], told: dict[str, str]) -> None:
    context = Context(calibration=_Noise(8, 8))
    run(Quantize(**options), parse(text), context)
    assert [refusal.site for refusal in context.refusals] == [*told]
    for refusal in context.refusals:
        assert f"{told[refusal.site]}" in refusal.why
        assert "only=[*]" in refusal.why


def test_every_role_is_quantized_or_has_its_reason() -> None:
    """Convolutions aside, of which `left in float` tells."""
    convolutions = {"pointwise", "depthwise", "grouped", "conv"}
    assert {*ROLES} == {*BLOCK_ROLES, *LEFT_ALONE, *convolutions}
