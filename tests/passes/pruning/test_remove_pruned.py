"""What masks emptied leaves the graph, the outputs stay, and what can't leave is named."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.harness import body, hold_to_effect, hold_to_text, ledger_findings, random_inputs, run
from tests.passes.quantization.test_quantize import Noise, block
from tests.passes.sparsity.test_nm_mask import MLP
from vitgraph.analysis.sites import find_sites
from vitgraph.backends.ort.backend import Ort
from vitgraph.cost.counts import count
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.models import load_model
from vitgraph.ir.mask_patterns import lost
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import Packing
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.pruning import prunable_units
from vitgraph.passes.pruning.block_prune import BlockPrune
from vitgraph.passes.pruning.remove_pruned import RemovePruned
from vitgraph.passes.sparsity.mask_insertion import insert_mask

aten = torch.ops.aten


def masked(text: str, **zeros: tuple[Any, Any]) -> Program:
    """A program with zeros masked: `fc1=(rows, columns)`, each a list or a slice."""
    program = parse(text)
    for site in find_sites(program).linears:
        name = site.path.rpartition(".")[2]
        if name in zeros:
            keep = torch.ones(site.n, site.k, dtype=torch.bool)
            rows, columns = zeros[name]
            keep[rows, columns] = False
            insert_mask(program, site.node, keep)
    program.clean()
    return program


ALL = slice(None)


def difference(before: Program, after: Program) -> float:
    inputs = random_inputs(before)
    return float((before.run(*inputs) - after.run(*inputs)).abs().max())


NARROW = """
x: f32[N, 8] = input()
w1: f32[9, 8] = weight("fc1.weight_narrow")
b1: f32[9] = weight("fc1.bias_narrow")
h: f32[N, 9] = aten.linear.default(x, w1, b1)
g: f32[N, 9] = aten.gelu.default(h)
w2: f32[8, 9] = weight("fc2.weight_narrow")
b2: f32[8] = weight("fc2.weight_constant")
y: f32[N, 8] = aten.linear.default(g, w2, b2)
z: f32[N, 8] = aten.add.Tensor(x, y)
head: f32[3, 8] = weight("head.weight")
r: f32[N, 3] = aten.linear.default(z, head, None)
return_(r)
"""


def test_hidden_units_leave() -> None:
    """Unit 7 outputs gelu(b1[7]) and becomes a bias; nothing is read of units 2 and 3."""
    before, context = masked(MLP, fc1=(7, ALL), fc2=(ALL, [2, 3])), Context()
    after = run(RemovePruned(), before, context)
    assert body(show(after)) == body(show(parse(NARROW)))
    hold_to_text(after)
    hold_to_effect(RemovePruned(), before, after)
    assert difference(before, after) < 1e-5
    entry = {"removed": "blocks.0.fc2", "units": "hidden units", "before": 12, "after": 9}
    assert ledger_findings(context) == [{**entry, "parameters": 3 * (8 + 1 + 8) - 8}]
    assert context.refusals == []
    assert show(run(RemovePruned(), after)) == show(after)


def nothing(program: Program, units: prunable_units.PrunableUnits) -> tuple[Tensor, Tensor]:
    """Constants that were lost."""
    fixed, values = prunable_units.constants(program, units)
    return fixed, torch.zeros_like(values)


def test_without_the_bias_the_outputs_would_change(monkeypatch: pytest.MonkeyPatch) -> None:
    before = masked(MLP, fc1=(7, ALL))

    monkeypatch.setattr("vitgraph.passes.pruning.remove_pruned.constants", nothing)
    assert difference(before, run(RemovePruned(), before)) > 1e-3


def test_a_mask_that_still_holds_something_back_stays() -> None:
    before = masked(MLP, fc2=([0, 1], 5)).copy()
    (site,) = (each for each in find_sites(before).linears if each.path.endswith("fc2"))
    assert show(run(RemovePruned(), before)) == show(before)  # a column of which two numbers are zero is read
    keep = before.tensor("fc2.weight_keep")
    keep[:, 9] = False
    after = run(RemovePruned(), before)
    assert "vitgraph.mask.default" in show(after)
    assert after.tensor("fc2.weight_keep_narrow").shape == (8, 11)
    assert difference(before, after) < 1e-5
    assert site.k == 12


@pytest.mark.parametrize(("zeros", "left"), [(slice(0, 16), 1), (slice(16, 32), 1), ([0, 17], 2)])
def test_heads_that_nobody_reads_leave(zeros: Any, left: int) -> None:
    before = masked(block(), proj=(ALL, zeros))
    context = Context()
    after = run(RemovePruned(), before, context)
    assert difference(before, after) < 1e-5
    assert [each["after"] for each in ledger_findings(context)] == ([left] if left < 2 else [])
    (site,) = find_sites(after).attentions
    assert site.heads == left
    assert after.calls()[0].meta["type"].shape[-1] == 48 * left
    hold_to_text(after)


def test_a_head_whose_v_is_its_bias_becomes_a_bias() -> None:
    before = masked(block(), qkv=(slice(64, 80), ALL))
    after = run(RemovePruned(), before)
    assert find_sites(after).attentions[0].heads == 1
    assert difference(before, after) < 1e-5
    assert bool((after.tensor("proj.weight_constant") != 0).any())
    hold_to_effect(RemovePruned(), before, after)


def test_a_head_whose_q_is_zero_still_puts_out_a_mean() -> None:
    before = masked(block(), qkv=(slice(0, 16), ALL))
    assert show(run(RemovePruned(), before)) == show(before)


BIASED = block().replace(
    "a: f32[N, 2, 5, 16] = vitgraph.attention.default(q, k, v, None, 0.25)",
    'pb: f32[1, 2, 5, 5] = weight("positions")\na: f32[N, 2, 5, 16] = vitgraph.attention.default(q, k, v, pb, 0.25)',
)


def test_a_head_takes_its_position_bias_along() -> None:
    before = masked(BIASED, proj=(ALL, slice(0, 16)))
    after = run(RemovePruned(), before)
    assert torch.equal(after.tensor("positions_narrow"), before.tensor("positions")[:, 1:])
    assert difference(before, after) < 1e-5


def test_a_bias_that_all_heads_share_stays() -> None:
    before = masked(BIASED.replace("pb: f32[1, 2,", "pb: f32[1, 1,"), proj=(ALL, slice(0, 16)))
    after = run(RemovePruned(), before)
    assert find_sites(after).attentions[0].heads == 1
    assert difference(before, after) < 1e-5


def test_where_nothing_would_stay_one_does() -> None:
    before = masked(MLP, fc2=(ALL, ALL))
    after = run(RemovePruned(), before)
    assert after.tensor("fc2.weight_narrow").shape == (8, 1)
    assert difference(before, after) < 1e-5
    assert show(run(RemovePruned(), after)) == show(after)


def test_multiples_keep_some_empty_units() -> None:
    before = masked(MLP, fc1=(7, ALL), fc2=(ALL, [2, 3]))
    after = run(RemovePruned(multiple=2), before)
    assert after.tensor("fc2.weight_narrow").shape == (8, 10)
    assert difference(before, after) < 1e-5
    assert show(run(RemovePruned(multiple=2), after)) == show(after)


TWO_LINEARS = """
x: f32[N, 5, 8] = input()
wg: f32[12, 8] = weight("gate.weight")
bg: f32[12] = weight("gate.bias")
g: f32[N, 5, 12] = aten.linear.default(x, wg, bg)  # blocks.0.gate
s: f32[N, 5, 12] = aten.silu.default(g)
wv: f32[12, 8] = weight("value.weight")
bv: f32[12] = weight("value.bias")
v: f32[N, 5, 12] = aten.linear.default(x, wv, bv)  # blocks.0.value
h: f32[N, 5, 12] = aten.mul.Tensor(s, v)
w2: f32[8, 12] = weight("fc2.weight")
y: f32[N, 5, 8] = aten.linear.default(h, w2, None)  # blocks.0.fc2
z: f32[N, 5, 8] = aten.add.Tensor(x, y)
return_(z)
"""
ONE_LINEAR = """
x: f32[N, 5, 8] = input()
w1: f32[24, 8] = weight("fc1.weight")
b1: f32[24] = weight("fc1.bias")
f: f32[N, 5, 24] = aten.linear.default(x, w1, b1)  # blocks.0.fc1
g: f32[N, 5, 12] = aten.slice.Tensor(f, -1, 0, 12)
v: f32[N, 5, 12] = aten.slice.Tensor(f, -1, 12, 24)
s: f32[N, 5, 12] = aten.silu.default(g)
h: f32[N, 5, 12] = aten.mul.Tensor(s, v)
w2: f32[8, 12] = weight("fc2.weight")
b2: f32[8] = weight("fc2.bias")
y: f32[N, 5, 8] = aten.linear.default(h, w2, b2)  # blocks.0.fc2
z: f32[N, 5, 8] = aten.add.Tensor(x, y)
return_(z)
"""
GATED: dict[str, tuple[str, dict[str, Any], int]] = {
    "nothing is read of two": (TWO_LINEARS, {"fc2": (ALL, [2, 3])}, 10),
    "two rows zero": (TWO_LINEARS, {"gate": (7, ALL), "value": (7, ALL)}, 11),
    "one row zero": (TWO_LINEARS, {"gate": (7, ALL)}, 12),
    "nothing is read of two halves": (ONE_LINEAR, {"fc2": (ALL, [0, 11])}, 10),
    "two halves zero": (ONE_LINEAR, {"fc1": ([4, 16], ALL)}, 11),
    "a half zero": (ONE_LINEAR, {"fc1": (16, ALL)}, 12),
}


@pytest.mark.parametrize("case", GATED)
def test_gated_units_take_a_row_of_either_branch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, zeros, left = GATED[case]
    before, context = masked(text, **zeros), Context()
    after = run(RemovePruned(), before, context)
    rows = 24 if text == ONE_LINEAR else 12
    assert next(site.n for site in find_sites(after).linears) == rows * left // 12
    assert [site.k for site in find_sites(after).linears][-1] == left
    assert difference(before, after) < 1e-5
    assert context.refusals == []
    hold_to_text(after)
    if left == 12:
        assert show(after) == show(before)
        return
    assert count(after).parameters == count(before).parameters - ledger_findings(context)[0]["parameters"]
    monkeypatch.setattr("vitgraph.passes.pruning.remove_pruned.constants", nothing)
    assert (difference(before, run(RemovePruned(), before)) > 1e-4) is ("zero" in case)  # units 7 and 4 were a bias


def test_a_factor_that_is_always_zero_takes_the_other_along() -> None:
    """The value's row is zero and so is its bias: whatever the gate says, the unit outputs nothing."""
    before = masked(ONE_LINEAR, fc1=(16, ALL))
    with torch.no_grad():
        before.tensor("fc1.bias")[16] = 0.0
    after = run(RemovePruned(), before)
    assert after.tensor("fc1.weight_narrow").shape == (22, 8)
    assert difference(before, after) < 1e-5
    hold_to_effect(RemovePruned(), before, after)


def test_a_norm_over_gated_units_keeps_them() -> None:
    """Scaled by the spread of all units, as in the larger EVA-02, none can leave."""
    norm = "n: f32[N, 5, 12] = aten.layer_norm.default(h, [12], None, None, 1e-6)\nw2: f32"
    before = masked(TWO_LINEARS.replace("w2: f32", norm).replace("(h, w2", "(n, w2"), fc2=(ALL, [2, 3]))
    context = Context()
    assert show(run(RemovePruned(only=("blocks.0.fc2",)), before, context)) == show(before)
    assert "more than an activation" in context.refusals[0].why


@pytest.mark.parametrize("text", [TWO_LINEARS, ONE_LINEAR])
def test_gated_units_are_pruned_and_leave(text: str) -> None:
    before, context = parse(text), Context()
    step = BlockPrune(granularity="units", budget=0.6, multiple=2, score="magnitude")
    pruned = run(step, before, context)
    after = run(RemovePruned(), pruned)
    assert difference(pruned, after) < 1e-5
    assert (
        count(after).macs / count(before).macs
        == pytest.approx(ledger_findings(context)[0]["left"], abs=1e-6)
        == pytest.approx(0.5)
    )
    assert "vitgraph.mask" not in show(after)


REFUSED = {
    "read elsewhere": MLP.replace("return_(r)", "s: f32[N, 12] = aten.relu.default(g)\nreturn_([r, s])"),
    "is read elsewhere too": TWO_LINEARS.replace("return_(z)", "r: f32[N, 5, 12] = aten.relu.default(v)\nreturn_([z, r])"),
    "more than an activation": MLP.replace("y: f32", 'c: f32[12] = weight("c")\nu: f32[N, 12] = aten.mul.Tensor(g, c)\ny: f32').replace("(g, w2", "(u, w2"),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_what_can_not_leave_is_named(why: str) -> None:
    before, context = masked(REFUSED[why], fc2=(ALL, [2, 3])), Context()
    assert show(run(RemovePruned(), before, context)) == show(before)
    assert [refusal.site for refusal in context.refusals] == ["blocks.0.fc2"]
    assert why in context.refusals[0].why
    quiet = Context()
    run(RemovePruned(), masked(REFUSED[why], fc2=(0, 0)), quiet)
    assert quiet.refusals == []  # nothing is empty there


@pytest.mark.parametrize("shared", [True, False])
def test_units_stay_where_another_linear_has_the_same_mask(shared: bool) -> None:
    """What leaves the mask would leave the other linear's too."""
    other = """e: f32[N, 12] = input()
w3: f32[8, 12] = weight("other.weight")
o: f32[N, 8] = aten.linear.default(e, w3, None)  # other
return_([r, o])"""
    before, context = masked(MLP.replace("return_(r)", other), fc2=(ALL, [2, 3])), Context()
    linears = {str(node.meta["path"]): node for node in before.calls(aten.linear.default)}
    if shared:
        linears["other"].update_arg(1, linears["blocks.0.fc2"].args[1])
    after = run(RemovePruned(), before, context)
    found = [refusal.why for refusal in context.refusals if refusal.site == "blocks.0.fc2"]
    assert found == (["another linear has the same mask"] if shared else [])
    assert (show(after) == show(before)) is shared


HEADS_REFUSED = {
    "quantized": block().replace("a: f32", 'ps: f32[] = constant("ps")\na: f32').replace("None, 0.25)", "None, 0.25, ps)"),
    "bias is computed": BIASED.replace("a: f32", "pc: f32[1, 2, 5, 5] = aten.tanh.default(pb)\na: f32").replace("pb, 0.25", "pc, 0.25"),
    "more than a linear": block().replace("k: f32", "qs: f32[N, 2, 5, 16] = aten.mul.Tensor(q, 2.0)\nk: f32").replace("default(q, k", "default(qs, k"),
    "read elsewhere": block().replace("return_(y)", "u: f32[N, 2, 5, 16] = aten.relu.default(k)\nreturn_([y, u])"),
    "an activation consumes": block().replace("s: f32", "c: f32[N, 2, 5, 16] = aten.relu.default(a)\ns: f32").replace("permute.default(a,", "permute.default(c,"),
}  # fmt: skip


@pytest.mark.parametrize("why", HEADS_REFUSED)
def test_heads_that_can_not_leave_are_named(why: str) -> None:
    before, context = masked(HEADS_REFUSED[why], proj=(ALL, slice(0, 16))), Context()
    assert show(run(RemovePruned(), before, context)) == show(before)
    assert [refusal.site for refusal in context.refusals] == ["attn.proj"]
    assert why in context.refusals[0].why or "more than" in context.refusals[0].why


SPLIT = block().replace(  # q, k and v are slices of the last dimension, and heads share no reshape
    "r: f32[N, 5, 3, 2, 16] = aten.reshape.default(qkv, [-1, 5, 3, 2, 16])\n"
    "p: f32[3, N, 2, 5, 16] = aten.permute.default(r, [2, 0, 3, 1, 4])\n"
    "q: f32[N, 2, 5, 16] = aten.select.int(p, 0, 0)\n"
    "k: f32[N, 2, 5, 16] = aten.select.int(p, 0, 1)\n"
    "v: f32[N, 2, 5, 16] = aten.select.int(p, 0, 2)\n",
    "".join(
        f"{n}1: f32[N, 5, 32] = aten.slice.Tensor(qkv, 2, {32 * i}, {32 * i + 32})\n"
        f"{n}2: f32[N, 5, 2, 16] = aten.reshape.default({n}1, [-1, 5, 2, 16])\n"
        f"{n}: f32[N, 2, 5, 16] = aten.permute.default({n}2, [0, 2, 1, 3])\n"
        for i, n in enumerate("qkv")
    ),
)
UNUSED = block().replace(  # q from another linear, though the first one has rows for it: no one dimension is heads'
    "q: f32[N, 2, 5, 16] = aten.select.int(p, 0, 0)\n",
    'wq: f32[32, 32] = weight("q.weight")\nbq: f32[32] = weight("q.bias")\n'
    "q1: f32[N, 5, 32] = aten.linear.default(x, wq, bq)  # attn.q\n"
    "q2: f32[N, 5, 2, 16] = aten.reshape.default(q1, [-1, 5, 2, 16])\n"
    "q: f32[N, 2, 5, 16] = aten.permute.default(q2, [0, 2, 1, 3])\n",
)


SEPARATE = (
    UNUSED.replace("[96", "[64").replace("5, 96]", "5, 64]").replace("5, 3, 2, 16", "5, 2, 2, 16").replace("[3, N,", "[2, N,")
    .replace("(p, 0, 1)", "(p, 0, 0)").replace("(p, 0, 2)", "(p, 0, 1)")
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_zeros_may_leave(data: st.DataObject) -> None:
    """Random rows and columns of every linear of an attention and an MLP in other layouts: outputs stay, and something goes."""
    text = data.draw(st.sampled_from([block(), BIASED, MLP, SPLIT, SEPARATE, UNUSED]))
    program = parse(text)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    share = data.draw(st.floats(0, 1))
    for site in find_sites(program).linears:
        group = data.draw(st.sampled_from([1, 4, 16]))
        keep = torch.ones(site.n, site.k, dtype=torch.bool)
        keep[_some(site.n, group, share, generator)] = False
        keep[:, _some(site.k, group, share, generator)] = False
        insert_mask(program, site.node, keep)
    program.clean()
    after = run(RemovePruned(multiple=data.draw(st.integers(1, 5))), program)
    assert difference(program, after) < 1e-5
    assert count(after).macs <= count(program).macs


def _some(count: int, group: int, share: float, generator: torch.Generator) -> Tensor:
    groups = torch.rand(-(-count // group), generator=generator) < share
    return groups.repeat_interleave(group)[:count]


def test_heads_spread_over_two_dimensions_stay() -> None:
    before, context = masked(UNUSED, proj=(ALL, slice(16, 32))), Context()
    assert show(run(RemovePruned(), before, context)) == show(before)
    assert [refusal.why for refusal in context.refusals] == ["units are spread over several dimensions"]


@pytest.mark.parametrize("text", [SPLIT, SEPARATE])
def test_heads_of_other_layouts_leave(text: str) -> None:
    assert "slice" in SPLIT
    before = masked(text, proj=(ALL, slice(16, 32)))
    after = run(RemovePruned(), before)
    assert find_sites(after).attentions[0].heads == 1
    assert difference(before, after) < 1e-5


def test_a_unit_too_many_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself can fail: a head that is not empty, taken out, changes the outputs."""
    before = masked(block(), proj=(ALL, slice(0, 16)))

    def wrong(units: prunable_units.PrunableUnits, flags: Tensor) -> Tensor:
        return torch.tensor([True, False])

    monkeypatch.setattr(prunable_units.PrunableUnits, "of_columns", wrong)
    assert difference(before, run(RemovePruned(), before)) > 1e-3


def test_what_is_left_takes_2_4_and_int8(tmp_path: Any) -> None:
    """And runs in ONNX Runtime with the heads that are left."""
    before = masked(block(), proj=(ALL, slice(0, 16)))
    after = run(RemovePruned(), before)
    assert "vitgraph.mask" not in show(after)  # the mask held nothing back any more
    with Ort().load(after) as runner:
        inputs = random_inputs(after)
        torch.testing.assert_close(runner.run(*inputs), before.run(*inputs), rtol=1e-4, atol=1e-4)
    sparse = pipeline("nm-mask,quantize,materialize").run(after, Context(calibration=Noise((5, 32), count=4)))
    codes = [tensor for tensor in sparse.tensors().values() if tensor.dtype == torch.int8]
    assert [list(each.shape) for each in codes] == [[48, 32], [32, 16]]


@pytest.mark.parametrize(
    ("steps", "leave"), [("nm-mask{only=[fc1]}", True), ("nm-mask", False), ("nm-mask{only=[fc1] v=4 m=8}", False)]
)
def test_groups_of_an_n_m_mask_are_left_whole(steps: str, leave: bool) -> None:
    """Rows may leave a mask of N:M, columns may not, nor may rows that share their columns."""
    dense = parse(MLP)
    with torch.no_grad():
        dense.tensor("fc2.weight")[:, [2, 3]] = 0.0
    before, context = pipeline(steps).run(dense), Context()
    after = run(RemovePruned(), before, context)
    assert [entry["after"] for entry in ledger_findings(context)] == ([10] if leave else [])
    refused = [refusal.why for refusal in context.refusals if refusal.site == "blocks.0.fc2"]
    assert ["ahead of nm-mask" in why for why in refused] == ([] if leave else [True])
    assert difference(before, after) < 1e-5
    assert list(lost(after)) == []


@pytest.mark.parametrize("sparse", [True, False])
def test_groups_that_came_with_the_weights_are_left_whole(sparse: bool) -> None:
    """fc2 after training with ASP, nobody's mask on it: its zeros count; without them the unit leaves."""
    dense, context = parse(MLP), Context()
    weight = dense.tensor("fc2.weight").detach()
    values = weight * nm_keep(weight.abs(), Packing(2, 4)) if sparse else weight.clone()
    values[:, 2] = 0.0
    before = parse(MLP, {**dense.tensors(), "fc2.weight": values})
    after = run(RemovePruned(), before, context)
    assert [entry["after"] for entry in ledger_findings(context)] == ([] if sparse else [11])
    assert ["ahead of nm-mask" in refusal.why for refusal in context.refusals if refusal.site == "blocks.0.fc2"] == [
        True
    ] * sparse
    assert difference(before, after) < 1e-5


def test_the_report_counts_what_left() -> None:
    before, dense = masked(MLP, fc1=(7, ALL), fc2=(ALL, [2, 3])), parse(MLP)
    after = run(RemovePruned(), before)
    cost, whole = count(after, dense), count(before, dense)
    assert cost.parameters == whole.parameters - 3 * 17 + 8 == count(after).parameters
    assert cost.macs == whole.macs - 3 * 16
    assert cost.nonzero_parameters == cost.parameters
    assert cost.dense_fp32_bytes == whole.dense_fp32_bytes
    assert cost.stored_bytes < whole.stored_bytes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "crossvit_tiny_240"])
def test_heads_of_real_models_leave(name: str) -> None:
    """Windows with position biases; q, k and v of linears of their own."""
    steps = "canonicalize,fold-constants,fuse-layer-norm,fuse-attention,fold-constants,block-prune{granularity=units score=magnitude budget=0.7}"
    masked = pipeline(steps).run(capture_model(load_model(name, weights="random")))
    context = Context()
    small = run(RemovePruned(), masked, context)
    assert {entry["units"] for entry in ledger_findings(context)} == {"heads", "hidden units"}
    assert count(small).macs < 0.7001 * count(masked).macs
    inputs = random_inputs(masked)
    before, after = masked.run(*inputs), small.run(*inputs)
    assert float((before - after).abs().max() / before.abs().max()) < 1e-5


SMALL = {"depth": 1, "embed_dim": 48, "num_heads": 2, "img_size": 28}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "vit_giant_patch14_dinov2"])
def test_gated_units_of_real_models_leave(name: str) -> None:
    """SwiGLU, with one linear for both factors."""
    steps = "canonicalize,fold-constants,fuse-layer-norm,fuse-attention,fold-constants"
    dense = pipeline(steps).run(capture_model(load_model(name, weights="random", model_args=SMALL)))
    reader = "blocks.0.mlp.fc2"
    masked = pipeline(f"block-prune{{granularity=units score=magnitude budget=0.8 only=[{reader}]}}").run(dense)
    small, context = masked.copy(), Context()
    RemovePruned().run(small, context)
    small.clean()
    (entry,) = ledger_findings(context)
    assert (entry["removed"], entry["after"] < entry["before"]) == (reader, True)
    inputs = random_inputs(masked)
    before, after = masked.run(*inputs), small.run(*inputs)
    assert float((before - after).abs().max() / before.abs().max()) < 1e-5
    assert count(small).macs < 0.81 * count(dense).macs
