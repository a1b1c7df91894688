"""N:M masks: valid for any shape and pattern, the largest stay, and what can't take the pattern is named."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import body, hold_to_text, run
from vitgraph.contract import Context
from vitgraph.errors import InputError
from vitgraph.passes.nm_mask import NmMask, nm_keep
from vitgraph.target import get_target
from vitgraph.text import parse, show

MLP = """
x: f32[N, 8] = input()
w1: f32[12, 8] = weight("fc1.weight")
b1: f32[12] = weight("fc1.bias")
h: f32[N, 12] = aten.linear.default(x, w1, b1)  # blocks.0.fc1
g: f32[N, 12] = aten.gelu.default(h)
w2: f32[8, 12] = weight("fc2.weight")
y: f32[N, 8] = aten.linear.default(g, w2, None)  # blocks.0.fc2
z: f32[N, 8] = aten.add.Tensor(x, y)
head: f32[3, 8] = weight("head.weight")
r: f32[N, 3] = aten.linear.default(z, head, None)  # head
return_(r)
"""
MASKED = """
x: f32[N, 8] = input()
w1: f32[12, 8] = weight("fc1.weight")
k1: bool[12, 8] = constant("fc1.weight_keep")
m1: f32[12, 8] = vitgraph.mask.default(w1, k1)
b1: f32[12] = weight("fc1.bias")
h: f32[N, 12] = aten.linear.default(x, m1, b1)
g: f32[N, 12] = aten.gelu.default(h)
w2: f32[8, 12] = weight("fc2.weight")
k2: bool[8, 12] = constant("fc2.weight_keep")
m2: f32[8, 12] = vitgraph.mask.default(w2, k2)
y: f32[N, 8] = aten.linear.default(g, m2, None)
z: f32[N, 8] = aten.add.Tensor(x, y)
head: f32[3, 8] = weight("head.weight")
r: f32[N, 3] = aten.linear.default(z, head, None)
return_(r)
"""


def test_masks_the_linears_of_the_blocks() -> None:
    context = Context()
    result = run(NmMask(), parse(MLP), context)
    assert body(show(result)) == body(show(parse(MASKED)))
    assert [entry["masked"] for entry in context.found] == ["blocks.0.fc1", "blocks.0.fc2"]
    hold_to_text(result)
    again = Context()
    assert show(run(NmMask(), result, again)) == show(result)
    assert ["mask already" in refusal.why for refusal in again.refusals] == [True, True]


def test_the_masked_program_trains() -> None:
    result = run(NmMask(), parse(MLP))
    result.module(torch.randn(2, 8)).sum().backward()
    weight, keep = result.tensor("fc1.weight"), result.tensor("fc1.weight_keep")
    assert isinstance(weight, torch.nn.Parameter)
    assert weight.grad is not None
    assert bool((weight.grad[~keep] == 0).all())
    assert bool((weight.grad[keep] != 0).any())


@st.composite
def weights(draw: st.DrawFn) -> tuple[torch.Tensor, int, int]:
    m = draw(st.integers(2, 9))
    n = draw(st.integers(1, m - 1))
    shape = [draw(st.integers(1, 6)), m * draw(st.integers(1, 4)), *draw(st.lists(st.integers(1, 3), max_size=2))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    values = torch.randn(shape, generator=generator)
    return (values if draw(st.booleans()) else values.round()), n, m  # rounded: many ties


@settings(max_examples=100, deadline=None)
@given(weights())
def test_every_mask_keeps_the_largest_n_of_each_m(case: tuple[torch.Tensor, int, int]) -> None:
    weight, n, m = case
    keep = nm_keep(weight, n, m)
    assert keep.shape == weight.shape
    assert keep.dtype == torch.bool
    groups = keep.movedim(1, -1).reshape(-1, m)
    sizes = weight.abs().movedim(1, -1).reshape(-1, m)
    assert bool((groups.sum(1) == n).all())
    least_kept = sizes.masked_fill(~groups, torch.inf).amin(1)
    most_dropped = sizes.masked_fill(groups, -1.0).amax(1)
    assert bool((least_kept >= most_dropped).all())


def test_of_equal_magnitudes_the_first_stays() -> None:
    weight = torch.tensor([[1.0, -1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(nm_keep(weight, 2, 4), torch.tensor([[True, True, False, False, True, True, False, False]]))


def test_groups_run_along_the_input_channels_of_a_convolution() -> None:
    weight = torch.tensor([1.0, 4.0, 3.0, 2.0]).reshape(1, 4, 1, 1).expand(1, 4, 3, 3)
    assert torch.equal(nm_keep(weight, 2, 4)[0, :, 1, 2], torch.tensor([False, True, True, False]))


@pytest.mark.parametrize(("n", "m"), [(4, 4), (5, 4), (0, 4), (-1, 4)])
def test_a_pattern_that_is_none(n: int, m: int) -> None:
    with pytest.raises(InputError, match="0 < n < m"):
        run(NmMask(n=n, m=m), parse(MLP))


def test_no_site_can_take_it() -> None:
    with pytest.raises(InputError, match=r"no site .* can take 3:7.*K = 8 is no multiple of 7"):
        run(NmMask(n=3, m=7), parse(MLP))


def test_a_target_without_the_pattern() -> None:
    with pytest.raises(InputError, match="a100 runs no 1:4"):
        run(NmMask(n=1, m=4), parse(MLP), Context(get_target("a100")))


def test_records_the_sites_that_it_leaves() -> None:
    context = Context()
    result = run(NmMask(n=2, m=8), parse(MLP), context)  # K is 8 and 12
    assert [(refusal.site, refusal.why) for refusal in context.refusals] == [
        ("blocks.0.fc2", "K = 12 is no multiple of 8")
    ]
    assert "fc1.weight_keep" in result.tensors()
    assert "fc2.weight_keep" not in result.tensors()


def test_sites_of_one_path_are_judged_one_by_one() -> None:
    text = MLP.replace("blocks.0.fc2", "blocks.0.fc1")
    context = Context()
    result = run(NmMask(n=2, m=8), parse(text), context)
    assert len(context.refusals) == 1
    assert "fc1.weight_keep" in result.tensors()
    assert "fc2.weight_keep" not in result.tensors()


@pytest.mark.parametrize(
    ("options", "masked"),
    [
        (NmMask(only=("fc1",)), ["fc1"]),
        (NmMask(skip=("fc1",)), ["fc2"]),
        (NmMask(only=("head",)), ["head"]),
        (NmMask(only=("blocks.*",), skip=("k>8",)), ["fc1"]),
    ],
)
def test_selectors(options: NmMask, masked: list[str]) -> None:
    tensors = run(options, parse(MLP)).tensors()
    assert [name.split(".")[0] for name in tensors if name.endswith("_keep")] == masked


def test_a_selector_that_matches_nothing() -> None:
    with pytest.raises(InputError, match="matches no site"):
        run(NmMask(only=("blocks.7.*",)), parse(MLP))


def test_a_computed_weight_takes_no_mask() -> None:
    text = MLP.replace("linear.default(x, w1, b1)", "linear.default(x, c1, b1)")
    text = text.replace("b1: f32[12]", "c1: f32[12, 8] = aten.tanh.default(w1)\nb1: f32[12]")
    context = Context()
    result = run(NmMask(), parse(text), context)
    (refusal,) = context.refusals
    assert "computed" in refusal.why
    assert "fc1.weight_keep" not in result.tensors()


def test_stops_when_the_fuel_is_used_up() -> None:
    result = run(NmMask(), parse(MLP), Context(fuel=2))  # one unit is the pipeline's
    assert "fc1.weight_keep" in result.tensors()
    assert "fc2.weight_keep" not in result.tensors()
