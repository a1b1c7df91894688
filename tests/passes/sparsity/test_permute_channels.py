"""Channels change places where that is legal, nothing else does, and a mask keeps more for it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import body, hold_to_effect, hold_to_text, ledger_findings, run
from tests.passes.quantization.test_quantize import Noise, block
from tests.passes.sparsity.test_nm_mask import MLP
from vitgraph.analysis.sites import find_sites
from vitgraph.errors import InputError, PassError
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.sparsity import permute_channels
from vitgraph.passes.sparsity.permutation import ChannelGroup, find_channels, find_order, kept_share
from vitgraph.passes.sparsity.permute_channels import PermuteChannels, permute
from vitgraph.quantizing.calibration import runs

WIDE = MLP.replace("12", "64")
PERMUTED = (
    WIDE.replace('"fc1.weight"', '"fc1.weight_permuted"')
    .replace('"fc1.bias"', '"fc1.bias_permuted"')
    .replace('"fc2.weight"', '"fc2.weight_permuted"')
)


def channels_of(program: Program, path: str) -> tuple[torch.fx.Node, ChannelGroup | str]:
    (node,) = (site.node for site in find_sites(program).linears if site.path == path)
    return node, find_channels(program, node)


def test_hidden_units_change_places() -> None:
    context, before = Context(), parse(WIDE)
    after = run(PermuteChannels(), before, context)
    assert body(show(after)) == body(show(parse(PERMUTED)))
    hold_to_text(after)
    hold_to_effect(PermuteChannels(), before, after)
    (entry,) = ledger_findings(context)
    assert entry["permuted"] == "blocks.0.fc2"
    assert entry["kept"] > entry["kept_before"] + 0.01
    rows = after.tensor("fc1.weight_permuted")
    assert not torch.equal(rows, before.tensor("fc1.weight"))
    assert torch.equal(rows.sort(dim=0).values, before.tensor("fc1.weight").sort(dim=0).values)


def test_channels_of_v_change_places_within_their_head() -> None:
    before, context = parse(block()), Context()
    after = run(PermuteChannels(), before, context)
    hold_to_effect(PermuteChannels(), before, after)
    assert [entry["permuted"] for entry in ledger_findings(context)] == ["attn.proj"]
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
    assert isinstance(channels, ChannelGroup)
    assert torch.equal(channels.parts.bincount(), torch.tensor([16, 16]))
    crossing = torch.arange(32).roll(1)
    with pytest.raises(PassError, match="leaves a head"):
        permute(after, node, channels, crossing)
    with pytest.raises(PassError, match="no permutation"):
        permute(after, node, channels, torch.zeros(32, dtype=torch.long))
    permute(after, node, ChannelGroup(channels.source, channels.rows, torch.zeros(32, dtype=torch.long)), crossing)
    after.clean()
    with pytest.raises(AssertionError):
        hold_to_effect(PermuteChannels(), before, after)


RESIDUAL = """
x: f32[N, 8] = input()
w: f32[16, 8] = weight("embed.weight")
e: f32[N, 16] = aten.linear.default(x, w, None)  # embed
w1: f32[32, 16] = weight("fc1.weight")
h: f32[N, 32] = aten.linear.default(e, w1, None)  # blocks.0.fc1
g: f32[N, 32] = aten.gelu.default(h)
w2: f32[16, 32] = weight("fc2.weight")
y: f32[N, 16] = aten.linear.default(g, w2, None)  # blocks.0.fc2
z: f32[N, 16] = aten.add.Tensor(e, y)
return_(z)
"""


def test_the_residual_stream_is_never_permuted() -> None:
    """fc1 reads what the embedding writes, and so does the addition: forced through, the numbers change."""
    before, context = parse(RESIDUAL), Context()
    permuted = run(PermuteChannels(), before, context)
    assert [(each.site, each.why) for each in context.refusals] == [
        ("blocks.0.fc1", "what it reads is read elsewhere too")
    ]
    assert "embed.weight_permuted" not in permuted.tensors()
    after = before.copy()
    embed, reader = (
        node for node in after.calls(torch.ops.aten.linear.default) if node.meta["path"] in ("embed", "blocks.0.fc1")
    )
    forced = ChannelGroup(embed, torch.arange(16), torch.zeros(16, dtype=torch.long))
    permute(after, reader, forced, torch.arange(16).roll(1))
    after.clean()
    with pytest.raises(AssertionError):
        hold_to_effect(PermuteChannels(), before, after)


def test_started_again_it_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders that were found are not looked for again, and the images are asked only about the others."""
    text = TWO_MLPS
    images = Noise((8,), count=16)
    step = PermuteChannels(score="wanda")
    whole = run(step, parse(text), Context(calibration=images))
    asked, looked = list[int](), list[int]()
    search, watch = find_order, runs

    def stops(saliency: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(asked) == 1:
            asked.append(0)
            raise KeyboardInterrupt
        asked.append(len(saliency))
        return search(saliency, *rest)

    def counted(program: Program, points: Any, *rest: Any) -> Any:
        looked.append(len(points))
        return watch(program, points, *rest)

    monkeypatch.setattr(permute_channels, "find_order", stops)
    monkeypatch.setattr(permute_channels, "runs", counted)
    with pytest.raises(KeyboardInterrupt):
        run(step, parse(text), Context(calibration=images, scratch=tmp_path))
    context = Context(calibration=images, scratch=tmp_path)
    told = list[tuple[str, int, int]]()
    context.progress = lambda what, done, total: told.append((what, done, total))
    resumed = run(step, parse(text), context)
    assert (len(asked), looked) == (3, [2, 1])
    assert [each for each in told if each[0] == "permutation"] == [("permutation", n, 2) for n in range(3)]
    assert len(ledger_findings(context)) == 2
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensor(name)), name


TWO_MLPS = """
x: f32[N, 8] = input()
w1: f32[32, 8] = weight("a.fc1.weight")
h1: f32[N, 32] = aten.linear.default(x, w1, None)  # a.fc1
g1: f32[N, 32] = aten.gelu.default(h1)
w2: f32[8, 32] = weight("a.fc2.weight")
y1: f32[N, 8] = aten.linear.default(g1, w2, None)  # a.fc2
r1: f32[N, 8] = aten.add.Tensor(x, y1)
w3: f32[32, 8] = weight("b.fc1.weight")
h2: f32[N, 32] = aten.linear.default(r1, w3, None)  # b.fc1
g2: f32[N, 32] = aten.gelu.default(h2)
w4: f32[8, 32] = weight("b.fc2.weight")
y2: f32[N, 8] = aten.linear.default(g2, w4, None)  # b.fc2
r2: f32[N, 8] = aten.add.Tensor(r1, y2)
return_(r2)
"""


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(2, 4), st.integers(2, 6), st.integers(1, 3))
def test_orders_are_legal_and_keep_no_less(data: st.DataObject, m: int, groups: int, heads: int) -> None:
    n, k = data.draw(st.integers(1, m - 1)), m * groups
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    saliency = torch.rand(5, k, generator=generator)
    parts = torch.arange(k) * heads // k
    order = find_order(saliency, n, m, parts, 30)
    assert ChannelGroup(torch.fx.Graph().placeholder("x"), torch.arange(k), parts).holds(order)
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
    assert ledger_findings(context)[0]["kept"] > ledger_findings(context)[0]["kept_before"]
    with pytest.raises(InputError, match="no calibration images"):
        run(PermuteChannels(score="wanda"), before)


def test_a_pattern_that_is_none() -> None:
    with pytest.raises(InputError, match="0 < n < m"):
        run(PermuteChannels(n=4), parse(WIDE))
