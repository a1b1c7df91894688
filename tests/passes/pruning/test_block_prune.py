"""Whole tiles go, or whole units; the budget is met; masks follow the ranking; what can't be pruned is named."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.harness import body, hold_to_text, ledger_findings, run
from tests.passes.quantization.test_quantize import Noise, block
from tests.passes.sparsity.test_nm_mask import MASKED, MLP, TWO_BRANCHES, Mixed, seen
from vitgraph.analysis.sites import find_sites
from vitgraph.cost.counts import count
from vitgraph.cost.estimates import estimate_on
from vitgraph.cost.fusion import find_kernels
from vitgraph.cost.roofline import Estimate
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.numerics import objection
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.pruning import prunable
from vitgraph.passes.pruning.allocation import Part
from vitgraph.passes.pruning.block_cost import Meter
from vitgraph.passes.pruning.block_prune import BlockPrune
from vitgraph.passes.pruning.prunable import Prunable, power_of
from vitgraph.passes.pruning.remove_pruned import RemovePruned
from vitgraph.passes.pruning.tiles import Curve
from vitgraph.targets.target import get_target

WIDE = MLP.replace("12", "64").replace("8]", "16]").replace("[8", "[16")
UPDATED = MASKED.replace('fc1.weight"', 'fc1.weight_updated"').replace('fc2.weight"', 'fc2.weight_updated"')
SMALL: dict[str, Any] = {"rows": 4, "cols": 4, "min_keep": 0.0}


def images(*shape: int, count: int = 32) -> Context:
    return Context(calibration=Noise(shape, count=count))


def keeps(program: Program) -> dict[str, torch.Tensor]:
    return {name.split("_keep")[0]: t for name, t in program.tensors().items() if "_keep" in name}


def share_left(program: Program, dense: Program) -> float:
    return count(program).nonzero_macs / count(dense).macs


def test_masks_tiles() -> None:
    dense, context = parse(MLP), seen()
    result = run(BlockPrune(budget=0.7, rows=4, cols=4), dense, context)
    assert body(show(result)) == body(show(parse(MASKED)))
    hold_to_text(result)
    model, *sites = ledger_findings(context)
    assert (model["budget"], model["asked"]) == ("flops", 0.7)
    assert "no backend gets faster" in model["runs"]
    assert model["left"] == pytest.approx(share_left(result, dense), abs=1e-6)
    for entry, keep in zip(sites, keeps(result).values(), strict=True):
        tiles = keep.unfold(0, 4, 4).unfold(1, 4, 4).flatten(2)
        assert bool((tiles.all(-1) == tiles.any(-1)).all())
        assert entry["of"] == "tiles"
        assert entry["left"] == int(tiles.all(-1).sum())
        assert entry["kept"] == pytest.approx(float(keep.double().mean()), abs=1e-6)
        assert 0 <= entry["saliency_lost"] <= 1
    again = Context(calibration=context.calibration)
    assert show(run(BlockPrune(budget=0.7, rows=4, cols=4), result, again)) == show(result)
    assert ["mask already" in refusal.why for refusal in again.refusals] == [True, True]


def test_what_stays_is_refitted() -> None:
    dense, context = parse(WIDE), Context(calibration=Mixed(16, count=64))
    plain = run(BlockPrune(budget=0.6, **SMALL), dense, context)
    fitted = run(BlockPrune(budget=0.6, refit=True, percdamp=0.01, **SMALL), dense, context)
    assert body(show(run(BlockPrune(budget=0.7, rows=4, cols=4, refit=True), parse(MLP), seen()))) == body(
        show(parse(UPDATED))
    )
    for name, keep in keeps(plain).items():
        assert torch.equal(keep, keeps(fitted)[name])
    x = Mixed(16, count=256).pixels
    errors = [float((each.run(x) - dense.run(x)).norm()) for each in (plain, fitted)]
    assert errors[1] < 0.8 * errors[0]
    assert all(0 <= entry["output_lost"] < 1 for entry in ledger_findings(context) if "output_lost" in entry)
    assert isinstance(fitted.tensor("fc1.weight_updated"), torch.nn.Parameter)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 1.0), st.sampled_from([2, 3, 5]), st.sampled_from([2, 3, 7]), st.booleans())
def test_budgets_are_met(budget: float, rows: int, cols: int, even: bool) -> None:
    """Within one of the smallest tiles, in whatever tiles."""
    dense = parse(WIDE)
    step = BlockPrune(budget=budget, rows=rows, cols=cols, score="magnitude", uniform=even, min_keep=0.0)
    context = Context()
    left = share_left(run(step, dense, context), dense)
    assert left <= budget * 1.0001
    assert left > budget - (rows * cols + 1) / count(dense).macs
    assert context.refusals == [] if left > 0.99 * budget else "too coarse" in context.refusals[0].why


def test_units_go_with_their_rows_and_columns() -> None:
    dense, context = parse(WIDE), Context(calibration=Noise((16,), count=32))
    masked = run(BlockPrune(granularity="units", budget=0.5, multiple=8), dense, context)
    small = run(RemovePruned(), masked)
    x = Noise((16,), count=8).pixels
    torch.testing.assert_close(masked.run(x), small.run(x), rtol=1e-5, atol=1e-5)
    width = small.tensor("fc2.weight_narrow").shape[1]
    assert width == next(entry["left"] for entry in ledger_findings(context) if "pruned" in entry)
    assert width % 8 == 0
    assert width < 64
    assert "vitgraph.mask" not in show(small)
    assert count(small).macs / count(dense).macs == pytest.approx(ledger_findings(context)[0]["left"], abs=1e-6)
    assert "remove-pruned takes the units out" in ledger_findings(context)[0]["runs"]


def test_heads_go_as_units() -> None:
    dense, context = parse(block()), Context(calibration=Noise((5, 32), count=16))
    masked = run(BlockPrune(granularity="units", budget=0.6), dense, context)
    assert keeps(masked).keys() == {"qkv.weight", "proj.weight"}
    small = run(RemovePruned(), masked)
    assert find_sites(small).attentions[0].heads == 1
    assert (
        count(small).macs / count(dense).macs
        == pytest.approx(ledger_findings(context)[0]["left"])
        == pytest.approx(0.5)
    )
    (entry,) = ledger_findings(context)[1:]
    assert (entry["of"], entry["count"], entry["left"]) == ("heads", 2, 1)


def test_the_unit_that_matters_least_goes() -> None:
    dense = parse(WIDE)
    with torch.no_grad():
        dense.tensor("fc2.weight")[:, 5] *= 1e-3
        dense.tensor("fc2.weight")[:, 6] *= 1e3
    keep = keeps(run(BlockPrune(granularity="units", budget=0.97, multiple=1), dense, images(16)))["fc2.weight"]
    assert not bool(keep[:, 5].any())
    assert bool(keep[:, 6].all())


@pytest.mark.parametrize(("by", "of"), [("latency", "units"), ("energy", "units"), ("latency", "tiles")])
def test_budgets_by_estimates(by: Any, of: Any) -> None:
    """Of what the cost model says of the program that is left: its kernels, estimated again, come to the budget."""
    dense, target = parse(block(197, 384)), get_target("a100")
    context = Context(target)
    step = BlockPrune(
        granularity=of, metric=by, budget=0.9 if of == "tiles" else 0.6, batch=64, min_keep=0.0, score="magnitude"
    )
    masked = run(step, dense, context)
    left = ledger_findings(context)[0]["left"]
    assert 0.99 * step.budget < left <= step.budget or of == "units"
    if of == "tiles":
        return  # the estimate is of a kernel that skips tiles, which no backend has
    estimates = [
        estimate_on(target, [kernel.in_type("fp16") for kernel in find_kernels(each)], 64)
        for each in (dense, run(RemovePruned(), masked))
    ]
    before, after = (each.ms if by == "latency" else each.mj for each in estimates if isinstance(each, Estimate))
    assert before is not None
    assert after is not None
    assert after / before == pytest.approx(left, abs=1e-6)


def test_estimates_need_a_target_that_has_them() -> None:
    step = BlockPrune(metric="latency", score="magnitude")
    with pytest.raises(InputError, match=r"metric=latency asks .* --target"):
        run(step, parse(MLP))
    with pytest.raises(InputError, match="no estimate for cpu"):
        run(step, parse(MLP), Context(get_target("cpu")))


POWER = """
x: f32[N, 8] = input()
w1: f32[64, 16] = weight("fc1.weight")
w0: f32[16, 8] = weight("stem.weight")
x0: f32[N, 16] = aten.linear.default(x, w0, None)  # stem
h: f32[N, 64] = aten.linear.default(x0, w1, None)  # blocks.0.fc1
g: f32[N, 64] = aten.gelu.default(h)
w2: f32[16, 64] = weight("fc2.weight")
y: f32[N, 16] = aten.linear.default(g, w2, None)  # blocks.0.fc2
z: f32[N, 16] = aten.add.Tensor(x0, y)
head: f32[3, 16] = weight("head.weight")
r: f32[N, 3] = aten.linear.default(z, head, None)  # head
return_(r)
"""


def test_power_prunes_what_draws_more() -> None:
    """fc2 reads four times as many channels as fc1: with the power term more of it goes, and less of fc1."""
    dense = parse(POWER)
    draws = {site.role: power_of(site) for site in find_sites(dense).linears}
    assert draws["fc2"] == 4 * draws["fc1"]
    kept = [
        shares(run(BlockPrune(power=power, budget=0.6, only=("fc1", "fc2"), **SMALL), dense, images(8)))
        for power in (0.0, 0.2, 1.0)
    ]
    assert kept[0]["fc2.weight"] > kept[1]["fc2.weight"] > kept[2]["fc2.weight"]
    assert kept[0]["fc1.weight"] < kept[1]["fc1.weight"] < kept[2]["fc1.weight"]


def shares(program: Program) -> dict[str, float]:
    """Of each weight, what is kept."""
    found = {name: float(keep.double().mean()) for name, keep in keeps(program).items()}
    return {"fc1.weight": 1.0, "fc2.weight": 1.0, **found}


def test_the_papers_sign_would_spare_what_draws_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: let the term grow with what goes, and fc2 keeps more."""
    dense, step = parse(POWER), BlockPrune(power=1.0, budget=0.6, only=("fc1", "fc2"), **SMALL)
    plain = run(BlockPrune(budget=0.6, only=("fc1", "fc2"), **SMALL), dense, images(8))
    before = prunable._part  # pyright: ignore[reportPrivateUsage]

    def turn(each: Prunable, curve: Curve, added: Tensor, meter: Meter, least: float) -> Part:
        return before(each, curve, added[0] - added, meter, least)

    monkeypatch.setattr(prunable, "_part", turn)
    turned = run(step, dense, images(8))
    assert shares(turned)["fc2.weight"] > shares(plain)["fc2.weight"]


SCORES: tuple[Literal["fisher", "taylor", "magnitude"], ...] = ("fisher", "taylor", "magnitude")


def test_scores_choose_differently() -> None:
    dense, context = parse(WIDE), images(16)
    found = {
        score: torch.cat([each.flatten() for each in keeps(run(BlockPrune(score=score, budget=0.6, **SMALL), dense, context)).values()])
        for score in SCORES
    }  # fmt: skip
    assert not torch.equal(found["fisher"], found["magnitude"])
    assert not torch.equal(found["taylor"], found["magnitude"])


def test_even_takes_the_same_share_of_every_site() -> None:
    found = keeps(run(BlockPrune(uniform=True, score="magnitude", budget=0.6, **SMALL), parse(WIDE), Context()))
    one, other = (float(keep.double().mean()) for keep in found.values())
    assert abs(one - other) < 0.05


def test_power_without_curves() -> None:
    with pytest.raises(InputError, match="uniform=true looks at no curve"):
        run(BlockPrune(uniform=True, power=1.0), parse(MLP), seen())


def test_a_budget_out_of_reach() -> None:
    with pytest.raises(InputError, match=r"budget=0.01 metric=flops is out of reach: 0\.\d+ is left"):
        run(BlockPrune(budget=0.01, rows=4, cols=4), parse(MLP), seen())


def test_coarse_tiles_are_named() -> None:
    context = seen()
    run(BlockPrune(budget=0.8, rows=6, cols=8), parse(MLP), context)
    assert "tiles are too coarse for a budget of 0.8" in context.refusals[-1].why


def test_without_images() -> None:
    assert not BlockPrune(score="magnitude").needs_images
    for step in (BlockPrune(), BlockPrune(score="magnitude", refit=True)):
        assert step.needs_images
        with pytest.raises(InputError, match=r"no calibration images.*--calibration-data"):
            run(step, parse(MLP))


def test_several_inputs() -> None:
    text = MLP.replace("return_(r)", "u: f32[N, 3] = input()\ns: f32[N, 3] = aten.add.Tensor(r, u)\nreturn_(s)")
    with pytest.raises(InputError, match="several inputs"):
        run(BlockPrune(), parse(text), seen())


def test_what_has_no_tiles_or_units_is_named() -> None:
    context = Context()
    run(
        BlockPrune(granularity="units", score="magnitude", only=("fc1", "fc2"), budget=0.9, multiple=1),
        parse(MLP),
        context,
    )
    assert [(each.site, "residual stream" in each.why) for each in context.refusals if each.site != "model"] == [
        ("blocks.0.fc1", True)
    ]
    conv = """
x: f32[N, 8, 4, 4] = input()
w: f32[8, 8, 1, 1] = weight("pw.weight")
y: f32[N, 8, 4, 4] = aten.conv2d.default(x, w, None, [1, 1], [0, 0], [1, 1], 1)  # pw
return_(y)
"""
    with pytest.raises(InputError, match="out of reach"):
        run(BlockPrune(score="magnitude", only=("*",)), parse(conv), context)
    assert "convolution" in context.refusals[-1].why


def test_stops_when_the_fuel_is_used_up() -> None:
    context = Context(fuel=2, calibration=seen().calibration)  # one unit is the pipeline's
    assert list(keeps(run(BlockPrune(budget=0.7, rows=4, cols=4), parse(MLP), context))) == ["fc1.weight"]


def test_a_linear_beside_a_second_value_is_pruned_but_not_refitted() -> None:
    context = seen()
    result = run(
        BlockPrune(budget=0.7, rows=4, cols=4, refit=True), parse(MLP.replace("return_(r)", "return_([r, g])")), context
    )
    assert "fc1.weight" in keeps(result)
    assert "not refitted" in {refusal.site: refusal.why for refusal in context.refusals}["blocks.0.fc1"]


def test_started_again_it_goes_on_where_it_was(tmp_path: Path) -> None:
    step = BlockPrune(budget=0.8, rows=4, cols=4, refit=True)
    whole = run(step, parse(TWO_BRANCHES), seen(scratch=tmp_path))
    parts = list(tmp_path.iterdir())
    assert len(parts) == 3  # curves, and two layers that were refitted
    parts[0].unlink()
    resumed = run(step, parse(TWO_BRANCHES), seen(scratch=tmp_path))
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensor(name)), name


def test_curves_are_taken_once_for_all_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = parse(WIDE)
    steps = [BlockPrune(budget=budget, **SMALL) for budget in (0.8, 0.5)]
    wanted = [keeps(run(step, dense, images(16))) for step in steps]
    scratch = Context(calibration=images(16).calibration, scratch=tmp_path)
    curves = steps[0].curves(dense, scratch)
    monkeypatch.setattr("vitgraph.passes.pruning.tiles.find_curves", None)  # from here on gradients would be an error
    again = steps[1].curves(dense, scratch)
    for one, other in zip(curves, again, strict=True):
        assert torch.equal(one.order, other.order)
        assert torch.equal(one.loss, other.loss)
    for step, keep in zip(steps, wanted, strict=True):
        copy = dense.copy()
        step.prune(copy, curves, Context())
        assert all(torch.equal(each, keep[name]) for name, each in keeps(copy).items())


def test_what_is_left_to_compute_is_told_site_by_site() -> None:
    """Of tiles by estimate more than the share that stays: the launch and what is read and written are not saved."""
    context = Context(get_target("a100"))
    run(
        BlockPrune(metric="latency", budget=0.9, batch=64, score="magnitude", min_keep=0.0),
        parse(block(197, 384)),
        context,
    )
    assert all(1 > each["cost_left"] > each["kept"] for each in ledger_findings(context)[1:])
    run(BlockPrune(budget=0.7, score="magnitude"), parse(block(197, 384)), context := Context())
    assert all(each["cost_left"] == each["kept"] for each in ledger_findings(context)[1:])


def test_pruned_and_then_2_4_and_int8() -> None:
    """What is left after units went is whole: it takes a pattern, and codes."""
    steps = "block-prune{granularity=units budget=0.6 multiple=8},remove-pruned,nm-mask,quantize{attention=false},materialize"
    result = pipeline(steps).run(parse(WIDE), images(16))
    codes = [tensor for tensor in result.tensors().values() if tensor.dtype == torch.int8]
    assert len(codes) == 2
    for each in codes:
        assert bool(((each != 0).reshape(-1, 4).sum(1) <= 2).all())


def test_the_zeros_hold_in_the_codes() -> None:
    steps = "block-prune{budget=0.6 rows=4 cols=4 refit=true},quantize{attention=false}"
    masked = pipeline(steps).run(parse(WIDE), images(16))
    zero = {name: ~keep for name, keep in keeps(masked).items()}
    result = pipeline("materialize").run(masked)
    codes = [tensor for tensor in result.tensors().values() if tensor.dtype == torch.int8]
    for each, mask in zip(codes, zero.values(), strict=True):
        assert bool((each[mask] == 0).all())
        assert bool((each[~mask] != 0).any())


def test_the_masked_program_trains() -> None:
    result = run(BlockPrune(budget=0.7, rows=4, cols=4, score="magnitude"), parse(MLP), Context())
    result.module(torch.randn(2, 8)).sum().backward()
    weight, keep = result.tensor("fc1.weight"), keeps(result)["fc1.weight"]
    assert isinstance(weight, torch.nn.Parameter)
    assert weight.grad is not None
    assert bool((weight.grad[~keep] == 0).all())


def test_the_declared_effect() -> None:
    dense = parse(WIDE)
    result = run(BlockPrune(budget=0.9, rows=4, cols=4), dense, images(16))
    assert objection(BlockPrune().declares(), dense.run(torch.randn(2, 16)), result.run(torch.randn(2, 16))) is None
    assert len(result.calls(dialect.mask)) == 2
