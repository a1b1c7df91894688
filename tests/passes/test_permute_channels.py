"""Channels change places where that is legal, nothing else does, and a mask keeps more for it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import body, hold_to_effect, hold_to_text, run
from tests.passes.test_nm_mask import MLP
from tests.passes.test_quantize import Noise, block
from vitgraph.contract import Context, PassError
from vitgraph.errors import InputError
from vitgraph.passes import pipeline
from vitgraph.passes._permutation import Channels, find_channels, find_order, kept_share
from vitgraph.passes.permute_channels import PermuteChannels, permute
from vitgraph.program import Program
from vitgraph.sites import find_sites
from vitgraph.text import parse, show

WIDE = MLP.replace("12", "64")
PERMUTED = (
    WIDE.replace('"fc1.weight"', '"fc1.weight_permuted"')
    .replace('"fc1.bias"', '"fc1.bias_permuted"')
    .replace('"fc2.weight"', '"fc2.weight_permuted"')
)


def channels_of(program: Program, path: str) -> tuple[torch.fx.Node, Channels | str]:
    (node,) = (site.node for site in find_sites(program).linears if site.path == path)
    return node, find_channels(program, node)


def test_hidden_units_change_places() -> None:
    context, before = Context(), parse(WIDE)
    after = run(PermuteChannels(), before, context)
    assert body(show(after)) == body(show(parse(PERMUTED)))
    hold_to_text(after)
    hold_to_effect(PermuteChannels(), before, after)
    (entry,) = context.found
    assert entry["permuted"] == "blocks.0.fc2"
    assert entry["kept"] > entry["kept_before"] + 0.01
    rows = after.tensor("fc1.weight_permuted")
    assert not torch.equal(rows, before.tensor("fc1.weight"))
    assert torch.equal(rows.sort(dim=0).values, before.tensor("fc1.weight").sort(dim=0).values)


def test_channels_of_v_change_places_within_their_head() -> None:
    before, context = parse(block()), Context()
    after = run(PermuteChannels(), before, context)
    hold_to_effect(PermuteChannels(), before, after)
    assert [entry["permuted"] for entry in context.found] == ["attn.proj"]
    old, new = before.tensor("qkv.weight"), after.tensor("qkv.weight_permuted")
    assert torch.equal(old[:64], new[:64])  # q and k
    for head in (slice(64, 80), slice(80, 96)):
        assert not torch.equal(old[head], new[head])
        assert torch.equal(old[head].sum(1).sort().values, new[head].sum(1).sort().values)


def test_a_mask_keeps_more() -> None:
    program = parse(WIDE)
    plain = run_mask("nm-mask{only=[fc2]}", program)
    permuted = run_mask("permute-channels,nm-mask{only=[fc2]}", program)
    assert permuted > 1.03 * plain


def run_mask(steps: str, program: Program) -> float:
    tensors = pipeline(steps).run(program).tensors()
    (name,) = (name for name in tensors if name.startswith("fc2.weight") and name.endswith("_keep"))
    return float((tensors[name.removesuffix("_keep")].detach() * tensors[name]).abs().sum())


def test_what_reads_the_residual_stream_is_refused() -> None:
    context = Context()
    run(PermuteChannels(), parse(WIDE), context)
    assert [(each.site, each.why) for each in context.refusals] == [
        ("blocks.0.fc1", "it reads the residual stream, or more than an activation stands before it")
    ]


REFUSED = {
    "read elsewhere": (WIDE.replace("return_(r)", "s: f32[N, 64] = aten.relu.default(g)\nreturn_([r, s])"), "elsewhere"),
    "read elsewhere before": (WIDE.replace("return_(r)", "s: f32[N, 64] = aten.relu.default(h)\nreturn_([r, s])"), "elsewhere"),
    "a scale by channel": (
        WIDE.replace("y: f32", 'c: f32[64] = weight("c")\nu: f32[N, 64] = aten.mul.Tensor(g, c)\ny: f32').replace("(g, w2", "(u, w2"),
        "more than an activation",
    ),
    "K that holds no groups": (MLP.replace("12", "10"), "K = 10 is no multiple of 4"),
    "a computed weight": (
        WIDE.replace("y: f32", "t: f32[8, 64] = aten.tanh.default(w2)\ny: f32").replace("(g, w2", "(g, t"),
        "computed or quantized",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    text, why = REFUSED[case]
    context, before = Context(), parse(text)
    after = run(PermuteChannels(only=("blocks.0.fc2",)), before, context)
    assert [refusal.site for refusal in context.refusals] == ["blocks.0.fc2"]
    assert why in context.refusals[0].why
    assert show(after) == show(before)


def test_heads_that_share_v_are_refused() -> None:
    text = block().replace(
        "v: f32[N, 2, 5, 16] = aten.select.int(p, 0, 2)",
        "v1: f32[N, 2, 5, 16] = aten.select.int(p, 0, 2)\n"
        "v0: f32[N, 1, 5, 16] = aten.slice.Tensor(v1, 1, 0, 1)\n"
        "v: f32[N, 2, 5, 16] = aten.expand.default(v0, [-1, 2, 5, 16])",
    )
    context = Context()
    run(PermuteChannels(), parse(text), context)
    assert "heads share" in {refusal.site: refusal.why for refusal in context.refusals}["attn.proj"]


def test_a_masked_linear_is_refused() -> None:
    context = Context()
    with_mask = run(pipeline("nm-mask").passes[0], parse(WIDE))
    assert show(run(PermuteChannels(), with_mask, context)) == show(with_mask)
    assert "ahead of nm-mask" in {refusal.site: refusal.why for refusal in context.refusals}["blocks.0.fc2"]


def test_an_order_that_leaves_a_head_is_no_order() -> None:
    """And forced through, it would change the numbers: the check is needed."""
    before = parse(block())
    after = before.copy()
    node, channels = channels_of(after, "attn.proj")
    assert isinstance(channels, Channels)
    assert torch.equal(channels.parts.bincount(), torch.tensor([16, 16]))
    crossing = torch.arange(32).roll(1)
    with pytest.raises(PassError, match="leaves a head"):
        permute(after, node, channels, crossing)
    with pytest.raises(PassError, match="no permutation"):
        permute(after, node, channels, torch.zeros(32, dtype=torch.long))
    permute(after, node, Channels(channels.source, channels.rows, torch.zeros(32, dtype=torch.long)), crossing)
    after.clean()
    with pytest.raises(AssertionError):
        hold_to_effect(PermuteChannels(), before, after)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(2, 4), st.integers(2, 6), st.integers(1, 3))
def test_orders_are_legal_and_keep_no_less(data: st.DataObject, m: int, groups: int, heads: int) -> None:
    n, k = data.draw(st.integers(1, m - 1)), m * groups
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    saliency = torch.rand(5, k, generator=generator)
    parts = torch.arange(k) * heads // k
    order = find_order(saliency, n, m, parts, 30)
    assert Channels(torch.fx.Graph().placeholder("x"), torch.arange(k), parts).holds(order)
    assert kept_share(saliency[:, order], n, m) >= kept_share(saliency, n, m) - 1e-6
    assert torch.equal(order, find_order(saliency, n, m, parts, 30))


def test_two_large_columns_that_stand_together_are_parted() -> None:
    """1:2 of [9, 9, 1, 1] keeps 9 and 1; of [9, 1, 9, 1] it keeps both nines."""
    saliency = torch.tensor([[9.0, 9.0, 1.0, 1.0]])
    order = find_order(saliency, 1, 2, torch.zeros(4, dtype=torch.long), 10)
    assert kept_share(saliency, 1, 2) == pytest.approx(0.5)
    assert kept_share(saliency[:, order], 1, 2) == pytest.approx(0.9)
    stays = find_order(saliency, 1, 2, torch.tensor([0, 0, 1, 1]), 10)
    assert kept_share(saliency[:, stays], 1, 2) == pytest.approx(0.5)


def test_by_the_inputs_norm() -> None:
    images = Noise((8,), count=16)
    context = Context(calibration=images)
    before = parse(WIDE)
    after = run(PermuteChannels(score="wanda"), before, context)
    hold_to_effect(PermuteChannels(), before, after)
    assert context.found[0]["kept"] > context.found[0]["kept_before"]
    with pytest.raises(InputError, match="no calibration images"):
        run(PermuteChannels(score="wanda"), before)


@pytest.mark.parametrize("step", [PermuteChannels(n=4), PermuteChannels(n=0), PermuteChannels(rounds=0)])
def test_options_out_of_range(step: PermuteChannels) -> None:
    with pytest.raises(InputError, match="0 < n < m"):
        run(step, parse(WIDE))
