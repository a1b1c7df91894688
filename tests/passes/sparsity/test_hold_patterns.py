"""Weights that come N:M sparse get a mask, and keep their zeros through passes that would fill or move them."""

from typing import Any

import pytest
import torch

from tests.harness import body, hold_to_text, ledger_findings, run
from tests.passes.quantization.test_quantize import Noise
from tests.passes.sparsity.test_existing_patterns import sparse
from tests.passes.sparsity.test_nm_mask import MASKED, MLP
from vitgraph.ir.packing import Packing
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.sparsity.hold_patterns import HoldPatterns
from vitgraph.targets.target import get_target

PATTERN = Packing(2, 4)
AFTER_TRAINING = {"fc1.weight": sparse(PATTERN, 12, 8), "fc2.weight": sparse(PATTERN, 8, 12, seed=1)}
INT8_BEST = "split-outliers,balance-attention,smooth-quant,quantize,reconstruct{iterations=5 batch=4 rate=20}"


def came(**other: torch.Tensor) -> Program:
    """The MLP after training with ASP."""
    return parse(MLP, {**parse(MLP).tensors(), **AFTER_TRAINING, **other})


def test_what_came_sparse_gets_a_mask_and_the_numbers_stay() -> None:
    context, program = Context(), came()
    held = run(HoldPatterns(), program, context)
    assert body(show(held)) == body(show(parse(MASKED)))
    hold_to_text(held)
    for name, weight in AFTER_TRAINING.items():
        assert torch.equal(held.tensor(f"{name}_keep"), weight != 0)
    x = torch.randn(4, 8)
    assert torch.equal(held.run(x), program.run(x))
    assert ledger_findings(context) == [{"held": f"blocks.0.{name}", "n": 2, "m": 4} for name in ("fc1", "fc2")]
    assert held.masks == {("blocks.0.fc1", 0): PATTERN, ("blocks.0.fc2", 0): PATTERN}
    assert show(run(HoldPatterns(), held)) == show(held)


def test_dense_models_stay_as_they_are() -> None:
    context = Context()
    assert show(run(HoldPatterns(), parse(MLP), context)) == show(parse(MLP))
    assert (context.findings, context.refusals) == ([], [])


def test_only_the_sites_that_are_named() -> None:
    assert list(run(HoldPatterns(skip=("fc2",)), came()).masks) == [("blocks.0.fc1", 0)]


def test_what_the_target_does_not_multiply_is_named() -> None:
    context = Context(get_target("a100"))
    program = parse(MLP.replace("8]", "32]").replace("[8", "[32").replace("12", "64"))
    tensors = program.tensors() | {"fc1.weight": sparse(Packing(3, 8), 64, 32), "fc2.weight": sparse(PATTERN, 32, 64)}
    held = run(HoldPatterns(), parse(show(program), tensors), context)
    assert list(held.masks.values()) == [PATTERN]
    (refusal,) = context.refusals
    assert refusal.site == "blocks.0.fc1"
    assert refusal.why == "a100 runs no 3:8 pattern: the zeros of its weight are not held"


def dense(*_: Any) -> None:
    """No weight came sparse."""


def patterns_left(program: Program) -> list[bool]:
    """Whether each linear of the blocks still has the pattern in what is multiplied."""
    codes = [tensor for tensor in pipeline("materialize").run(program).tensors().values() if tensor.dtype == torch.int8]
    return [PATTERN.holds(code != 0) for code in codes]


@pytest.mark.parametrize("ahead", ["hold-patterns,", ""])
def test_what_learns_weights_leaves_the_zeros(ahead: str) -> None:
    """With the pass, and in a pipeline that has forgotten it."""
    result = pipeline(f"{ahead}{INT8_BEST}").run(came(), Context(calibration=Noise((8,), count=8)))
    assert patterns_left(result) == [True, True]


def test_without_either_they_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: what `reconstruct` did before."""
    monkeypatch.setattr("vitgraph.passes.quantization.fitting.existing_pattern", dense)
    result = pipeline(INT8_BEST).run(came(), Context(calibration=Noise((8,), count=8)))
    assert patterns_left(result) == [False, False]


def test_masks_that_came_are_not_chosen_again() -> None:
    """`sparse-int8-best` would put channels in another order and choose anew, and lose what training found."""
    steps = "hold-patterns,permute-channels{score=wanda},nm-mask{score=sparsegpt refit=true}"
    result = pipeline(steps).run(came(), Context(calibration=Noise((8,), count=8)))
    for name, weight in AFTER_TRAINING.items():
        assert torch.equal(result.tensor(name), weight)
        assert torch.equal(result.tensor(f"{name}_keep"), weight != 0)
    assert [len(step["refused"]) for step in result.ledger] == [0, 2, 2]


def test_channels_and_copies_leave_a_pattern_that_nobody_masked() -> None:
    loud = AFTER_TRAINING["fc1.weight"].clone()
    loud[5] *= 1e3
    result = pipeline("permute-channels,split-outliers").run(
        came(**{"fc1.weight": loud}), Context(calibration=Noise((8,), count=8))
    )
    assert torch.equal(result.tensor("fc2.weight"), AFTER_TRAINING["fc2.weight"])
    permuted, split = ({each["site"]: each["why"] for each in step["refused"]} for step in result.ledger)
    assert permuted["blocks.0.fc2"] == "its weight came 2:4 sparse, and the groups would fall apart"
    assert "a channel stands out, but copies" in split["blocks.0.fc2"]


@pytest.mark.parametrize("step", ["block-prune{rows=4 cols=4", "block-prune{granularity=units multiple=4"])
def test_pruning_goes_on_from_the_zeros_that_came(step: str) -> None:
    images = Context(calibration=Noise((8,), count=32))
    result = pipeline(f"{step} budget=0.7 refit=true}},remove-pruned,materialize").run(came(), images)
    kept = {
        name.split(".")[0]: tensor
        for name, tensor in result.tensors().items()
        if name.startswith("fc") and tensor.dim() == 2
    }
    for name, weight in AFTER_TRAINING.items():
        now = kept[name.split(".")[0]]
        assert PATTERN.holds(now != 0)
        assert now.shape == weight.shape
        assert bool((now[weight == 0] == 0).all())
        assert not torch.equal(now, weight)
