"""What stands in the report: estimates in fields that say so, and a reason where there is none."""

import pytest

from vitgraph.cost.encoder import Encoder
from vitgraph.cost.estimates import compare_forms, describe_estimates, estimate_on
from vitgraph.cost.roofline import BOUNDS, Estimate
from vitgraph.targets.target import Target, all_targets, get_target

SMALL = Encoder(layers=2, hidden=128, heads=4, tokens=65).kernels("tensorrt", "fp16")
LARGE = Encoder(layers=1, hidden=1024, heads=16, tokens=197).kernels("tensorrt", "fp16")


def test_every_key_says_estimated_and_every_target_has_a_number_or_a_reason() -> None:
    found = describe_estimates(SMALL, batch=8)
    assert all(key.startswith("estimated") for key in found)
    assert "batch 8" in found["estimated_by"]
    for target in all_targets():
        assert (found["estimated_ms"][target.name] is None) == (target.name in found["estimated_why"])
        assert (found["estimated_bound"][target.name] in BOUNDS) == (target.name not in found["estimated_why"])


def test_only_the_targets_that_were_asked_for() -> None:
    assert list(describe_estimates(SMALL, targets=[get_target("a100")])["estimated_ms"]) == ["a100"]


@pytest.mark.parametrize(
    "target", [target for target in all_targets() if target.chip is not None], ids=lambda t: t.name
)
def test_batches_and_types_on_every_gpu(target: Target) -> None:
    one, many = estimate_on(target, LARGE), estimate_on(target, LARGE, 64)
    assert isinstance(one, Estimate)
    assert isinstance(many, Estimate)
    assert 8 * one.ms < many.ms < 64 * one.ms
    forms = {name: by_target[target.name] for name, by_target in compare_forms(LARGE, 64, [target]).items()}
    assert forms["fp16"] == pytest.approx(many.ms, rel=1e-3)
    known = [ms for ms in forms.values() if ms is not None]
    assert known == sorted(known, reverse=True)
    assert (forms["int8 2:4"] == forms["int8"]) == (target.sparse is None)


def test_golden_numbers_of_a_small_model() -> None:
    """By this table a change of the model is seen; `docs/cost.md` says how far the model itself is off."""
    found = {
        name: ms if ms is None else round(ms, 3) for name, ms in describe_estimates(SMALL, 64)["estimated_ms"].items()
    }
    golden = {
        "a100": 0.125, "cpu": None, "h200": 0.091, "orin-agx": 0.494, "rtx-ada": 0.155, "rtx-ampere": 0.226,
        "rtx-blackwell": 0.13, "rtx-turing": 0.248, "vegeta": None,
    }  # fmt: skip
    assert {name: found[name] for name in golden} == golden
