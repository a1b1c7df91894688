"""A recipe that quantizes little says so, with what would be quantized."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.analysis.test_sites import BLOCK, CONVOLUTIONS, PADDED, STRIDED
from tests.harness import run
from vitgraph.analysis.roles import BLOCK_ROLES, ROLES
from vitgraph.analysis.sites import find_sites
from vitgraph.ir.calls import WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import PAIRS
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.findings import LeftInFloatFinding
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.quantization.left_in_float import LEFT_ALONE, MANY_WEIGHTS, NO_SITES
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
    shape = (8, 8) if text == LINEARS else (8, 6, 6)
    context = Context(get_target("cpu"), calibration=_Noise(*shape))
    run(step, parse(text), context)
    return [each for each in context.findings if isinstance(each, LeftInFloatFinding)]


WINDOWS = (
    POINTWISE.replace("[32, 8, 1, 1]", "[32, 8, 3, 3]")
    .replace("[8, 32, 1, 1]", "[8, 32, 3, 3]")
    .replace("[1, 1], [0, 0], [1, 1]", "[1, 1], [1, 1], [1, 1]")
)


def test_convolutions_at_each_position_are_linears_and_those_of_windows_are_told_of() -> None:
    assert found(Quantize(), POINTWISE) == []
    (finding,) = found(Quantize(), WINDOWS)
    assert (finding.quantized_macs, finding.left_in_float) == (0.0, "conv 100%")
    assert finding.remedy.startswith("conv: its window is larger than 1×1")
    assert finding.remedy.endswith("quantize{only=[*]} takes conv too")
    assert found(Quantize(only=("*",)), WINDOWS) == []  # and the remedy is one


def test_the_reason_told_is_that_of_most_of_the_work_and_not_of_most_sites() -> None:
    """One convolution with large windows, two sites that `skip` names."""
    mixed = POINTWISE.replace("aten.tanh.default(i)", "aten.tanh.default(j)").replace(
        "x: f32", 'c: f32[8, 8, 5, 5] = weight("c.weight")\nk: f32[N, 8, 6, 6] = aten.cumsum.default(i, 2)\n'
        "j: f32[N, 8, 6, 6] = aten.conv2d.default(k, c, None, [1, 1], [2, 2], [1, 1], 1)  # c\nx: f32",
    )  # fmt: skip
    (finding,) = found(Quantize(skip=("a", "b")), mixed)
    assert finding.remedy.startswith("conv: its window")
    assert finding.left_in_float.startswith("conv 76%")


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
    ("text", "path", "why"),
    [
        (BLOCK, "filter", "sums few products"),
        (BLOCK, "reduce", "one pooled position"),
        (BLOCK, "excite", "one pooled position"),
        (BLOCK, "classes", "ends in the output"),
        (CONVOLUTIONS, "full", "window is larger"),
        (CONVOLUTIONS.replace("f32[16, 16, 3, 3]", "f32[16, 8, 3, 3]").replace("1)  # full", "2)  # full"), "full", "more layers"),
        (STRIDED, "pw", "strides or pads"),
        (PADDED, "pw", "strides or pads"),
    ],
)  # fmt: skip
def test_a_convolution_that_its_role_leaves_says_why(text: str, path: str, why: str) -> None:
    shape = parse(text).inputs[0].meta["type"].shape[1:]
    context = Context(calibration=_Noise(*shape))
    program = run(Quantize(), parse(text), context)
    told = {refusal.site: refusal.why for refusal in context.refusals if "attention" not in refusal.why}
    assert why in told[path]
    assert told[path].endswith("only=[*] takes it too")
    left = {site.path for site in find_sites(program).linears if WeightedCall(site.node).weight.target not in PAIRS}
    assert left == {*told}


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
    assert {*ROLES} == {*BLOCK_ROLES, *LEFT_ALONE}


OTHERS = """
x: f32[N, 8, 6, 6] = input()
u: f32[8, 4, 2, 2] = weight("up.weight")
y: f32[N, 4, 12, 12] = aten.conv_transpose2d.input(x, u, None, [2, 2], [0, 0], [0, 0], 1, [1, 1])  # up
r: f32[N, 4, 144] = aten.reshape.default(y, [-1, 4, 144])
w: f32[4, 4, 3] = weight("along.weight")
z: f32[N, 4, 142] = aten.conv1d.default(r, w, None, [1], [0], [1], 1)  # along
return_(z)
"""
MANY = """
x: f32[N, 6, 4, 8] = input()
w: f32[6, 8, 5] = constant("positions")
y: f32[N, 6, 4, 5] = aten.matmul.default(x, w)  # rows
return_(y)
"""


def test_a_weight_for_each_row_is_refused() -> None:
    context = Context(calibration=_Noise(6, 4, 8))
    run(Quantize(), parse(MANY), context)
    assert [(each.site, each.why) for each in context.refusals] == [("rows", MANY_WEIGHTS)]


def test_a_product_that_is_no_site_is_refused_too() -> None:
    context = Context(calibration=_Noise(8, 6, 6))
    run(Quantize(), parse(OTHERS), context)
    assert [(each.site, each.why) for each in context.refusals] == [
        ("up", NO_SITES[aten.conv_transpose2d.input]),
        ("along", NO_SITES[aten.conv1d.default]),
    ]
