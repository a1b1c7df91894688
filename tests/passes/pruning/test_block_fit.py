"""The fit is the least squares to what the dense model outputs, and the ledger says what was lost of that."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx

from tests.harness import ledger_findings, run
from tests.passes.quantization.test_quantize import block
from tests.passes.sparsity.test_nm_mask import MLP, Mixed
from vitgraph.images.calibration_data import Images
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import LINEARS
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import affine
from vitgraph.passes.pruning.block_fit import fit, output_lost
from vitgraph.passes.pruning.block_prune import BlockPrune
from vitgraph.passes.sparsity.input_moments import Moments
from vitgraph.passes.sparsity.layerwise import change_in_order
from vitgraph.passes.sparsity.nm_selection import damped, refit
from vitgraph.progress import silent
from vitgraph.quantizing.calibration import Observer, runs

WIDE = MLP.replace("12", "64").replace("8]", "16]").replace("[8", "[16")
LINALG: Any = torch.linalg
CASES = {
    "hidden units": (WIDE, BlockPrune(granularity="units", budget=0.5, multiple=4, refit=True), Mixed(16, count=64)),
    "heads": (block(), BlockPrune(granularity="units", budget=0.6, refit=True), Mixed(5, 32, count=24)),
    "tiles": (WIDE, BlockPrune(budget=0.5, rows=8, cols=4, min_keep=0.0, refit=True), Mixed(16, count=64)),
}


def moments(now: Tensor, dense: Tensor) -> Moments:
    return Moments(now.T @ now, dense.T @ now, dense.T @ dense)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 99),
    st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=6, max_size=6),
    st.floats(1e-3, 1),
)
def test_the_fit_is_the_least_squares_of_each_row(seed: int, rows: list[list[bool]], percdamp: float) -> None:
    """With λ as rows of its own; whatever stays of a row, all or nothing too."""
    weight, dense, keep = drawn(6, 8, seed=seed), drawn(40, 8, seed=seed + 1), torch.tensor(rows)
    now = dense * (torch.arange(8) != 3) + 0.1 * drawn(40, 8, seed=seed + 2)
    lam = percdamp * (now.T @ now).diagonal().mean()
    a, y = torch.cat([now, lam.sqrt() * torch.eye(8)]), torch.cat([dense @ weight.T, lam.sqrt() * weight.T])
    fitted = fit(weight, keep, moments(now, dense), percdamp)
    for row, pattern in enumerate(keep):
        torch.testing.assert_close(fitted[row, pattern], LINALG.lstsq(a[:, pattern], y[:, row]).solution)
        assert bool((fitted[row, ~pattern] == 0).all())


def test_a_row_that_keeps_all_moves_only_to_make_good_what_others_lost() -> None:
    weight, dense, every = drawn(3, 8), drawn(40, 8, seed=1), torch.ones(3, 8, dtype=torch.bool)
    assert torch.equal(fit(weight, every, moments(dense, dense), 0.1), weight)
    now = dense + 0.5 * drawn(40, 8, seed=2)
    assert not torch.allclose(fit(weight, every, moments(now, dense), 0.1), weight, atol=1e-2)


def test_the_same_as_the_fit_of_nm_where_nothing_ahead_changed() -> None:
    weight, dense = drawn(6, 8), drawn(40, 8, seed=1)
    keep = torch.tensor([[1, 1, 0, 0, 1, 1, 0, 1], [1, 0, 1, 1, 0, 1, 1, 0]]).bool().repeat_interleave(3, 0)
    hessian = damped(dense.T @ dense, 0.1)
    torch.testing.assert_close(fit(weight, keep, moments(dense, dense), 0.1), refit(keep, hessian, weight @ hessian))


def test_with_pruned_inputs_on_both_sides_nothing_would_be_left_to_fit() -> None:
    """What was wrong: the columns whose units went are zero, so that the weights that stay are right already."""
    weight, dense, gone = drawn(4, 8), drawn(40, 8, seed=1) @ drawn(8, 8, seed=2), torch.arange(8) > 4
    now, keep = dense.masked_fill(gone, 0.0), (~gone).expand(4, 8)
    blind, seeing = moments(now, now), moments(now, dense)
    unfitted, fitted = (fit(weight, keep, each, 1e-3) for each in (blind, seeing))
    torch.testing.assert_close(unfitted, weight * keep)
    assert float(output_lost(weight, unfitted, blind)) == pytest.approx(0, abs=1e-12)
    lost = [float(output_lost(weight, each, seeing)) for each in (unfitted, fitted)]
    assert lost[1] < 0.7 * lost[0]
    assert lost == pytest.approx([measured(dense @ weight.T, now @ each.T) for each in (unfitted, fitted)])


def measured(dense: Tensor, now: Tensor) -> float:
    return float((now - dense).double().square().sum() / dense.double().square().sum())


@pytest.mark.parametrize("case", ["hidden units", "heads"])
def test_the_ledger_says_what_was_lost(case: str) -> None:
    """Both programs run on the same images; the outputs of each pruned linear, without its bias, side by side."""
    text, step, images = CASES[case]
    dense, context = parse(text), Context(calibration=images)
    pruned = run(step, dense, context)
    before, after = outputs(dense, images), outputs(pruned, images)
    entries = [entry for entry in ledger_findings(context) if "pruned" in entry]
    assert entries
    for entry in entries:
        path = entry["pruned"]
        assert entry["output_lost"] == pytest.approx(measured(before[path], after[path]), rel=1e-3, abs=1e-6)
        assert entry["output_lost"] > 1e-4


def test_of_tiles_the_ledger_says_what_was_lost_on_the_inputs_that_a_linear_gets() -> None:
    text, step, images = CASES["tiles"]
    dense, context = parse(text), Context(calibration=images)
    pruned = run(step, dense, context)
    after = outputs(pruned, images)
    entries = {entry["pruned"]: entry["output_lost"] for entry in ledger_findings(context) if "pruned" in entry}
    assert list(entries) == ["blocks.0.fc1", "blocks.0.fc2"]
    for node, whole in zip(pruned.calls(*LINEARS), dense.calls(*LINEARS), strict=True):
        if path_of(node) in entries:
            (rows,) = zip(*runs(pruned, [Observer(node.all_input_nodes[0])], images, silent, ""), strict=True)
            wanted = torch.cat(rows) @ affine.weight(dense, whole).T
            assert entries[path_of(node)] == pytest.approx(measured(wanted, after[path_of(node)]), rel=1e-3)


@pytest.mark.parametrize("case", ["hidden units", "heads"])
def test_units_that_went_are_made_good(case: str) -> None:
    text, step, images = CASES[case]
    dense = parse(text)
    lost = dict[bool, float]()
    for refitted in (False, True):
        pruned = run(replace(step, refit=refitted), dense, Context(calibration=images))
        reader = path_of(pruned.calls(*LINEARS)[1])
        lost[refitted] = measured(outputs(dense, images)[reader], outputs(pruned, images)[reader])
    assert lost[True] < 0.85 * lost[False]


def test_the_check_above_finds_a_fit_to_pruned_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with x̂ in the place of x the weights stay, and the ledger says that nothing was lost."""
    text, step, images = CASES["hidden units"]
    before = change_in_order

    def blind(*given: Any, beside: bool) -> Any:
        assert beside
        return before(*given, beside=False)

    monkeypatch.setattr("vitgraph.passes.pruning.block_fit.change_in_order", blind)
    context = Context(calibration=images)
    pruned = run(step, parse(text), context)
    (entry,) = [entry for entry in ledger_findings(context) if "pruned" in entry]
    assert entry["output_lost"] < 1e-4
    assert measured(outputs(parse(text), images)[entry["pruned"]], outputs(pruned, images)[entry["pruned"]]) > 0.05


def outputs(program: Program, images: Images) -> dict[str, Tensor]:
    """What each linear outputs, less its bias, by its path."""
    nodes: list[fx.Node] = program.calls(*LINEARS)
    seen = zip(*runs(program, [Observer(node) for node in nodes], images, silent, ""), strict=True)
    biases = [affine.bias(program, node) for node in nodes]
    values = [torch.cat(each) - (0 if bias is None else bias) for each, bias in zip(seen, biases, strict=True)]
    return dict(zip(map(path_of, nodes), values, strict=True))
